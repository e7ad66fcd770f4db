import Foundation
import Support

/// A folder of a cache, under upstream's name. It holds one file for each sample.
///
/// The folders are declared beside their artifacts.
public struct CacheFolder: RawRepresentable, Hashable, Sendable, Codable, CodingKeyRepresentable {
  public let rawValue: String

  public init(rawValue: String) { self.rawValue = rawValue }

  /// All folders, in the order in which they are made and listed.
  public static var all: [CacheFolder] { Artifacts.all.map(\.folder) }

  /// The content of one file, for messages: `text features`.
  public var noun: String { Artifacts[self]?.noun ?? rawValue }

  /// Returns the sample files below a folder, by their relative paths without the extension.
  ///
  /// - Throws: `Issue` if the folder does not exist.
  public static func files(below folder: String) throws -> [String: String] {
    guard isFolder(folder) else {
      throw Issue(
        [.file(folder)], "does not exist",
        suggestion: "Run `ltx preprocess` first.")
    }
    var files: [String: String] = [:]
    try add(folder, below: "", to: &files)
    return files
  }

  /// Adds the sample files of a folder and of those in it; links to folders are not followed.
  ///
  /// Foundation's enumerator asks the system for the attributes of every file, which takes most of
  /// the time for 100,000 of them.
  ///
  /// - Parameter path: The path of the subfolder relative to the cache's folder, ending in `/`.
  private static func add(
    _ folder: String, below path: String, to files: inout [String: String]
  ) throws {
    guard let handle = opendir("\(folder)/\(path)") else {
      throw Issue([.file("\(folder)/\(path)")], "can't be read: \(describe(errno: errno))")
    }
    defer { closedir(handle) }
    while let entry = readdir(handle) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: Int(NAME_MAX) + 1) { String(cString: $0) }
      }
      guard name != ".", name != ".." else { continue }
      let relative = path + name
      if isFolderEntry(entry.pointee.d_type, "\(folder)/\(relative)") {
        try add(folder, below: relative + "/", to: &files)
        continue
      }
      // Unfinished files have another extension.
      guard let format = CacheFormat.allCases.first(where: { name.hasSuffix(".\($0.rawValue)") }),
        !EmptyPrompt.isFile(relative)
      else { continue }
      let sample = String(relative.dropLast(format.rawValue.count + 1))
      // Of a sample in both formats, the same file is read on every machine.
      if format == .safetensors || files[sample] == nil { files[sample] = "\(folder)/\(relative)" }
    }
  }

  /// - Parameter type: The type in the folder's entry, which some file systems don't tell.
  private static func isFolderEntry(_ type: UInt8, _ path: String) -> Bool {
    guard Int(type) == Int(DT_UNKNOWN) else { return Int(type) == Int(DT_DIR) }
    var status = stat()
    return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }
}

/// The format of the files of a cache; the raw value is their extension.
public enum CacheFormat: String, CaseIterable, Sendable {
  /// Safetensors with a fingerprint in the metadata.
  case safetensors
  /// The official trainer's format, with a fingerprint that it ignores.
  case pt

  var other: CacheFormat { self == .pt ? .safetensors : .pt }
}
