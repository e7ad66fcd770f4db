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
    guard isFolder(folder), let found = FileManager.default.enumerator(atPath: folder) else {
      throw Issue(
        [.file(folder)], "does not exist",
        suggestion: "Run `ltx preprocess` first.")
    }
    var files: [String: String] = [:]
    for case let relative as String in found {
      let url = URL(fileURLWithPath: relative)
      // Unfinished files have another extension.
      guard CacheFormat(rawValue: url.pathExtension) != nil, !EmptyPrompt.isFile(relative) else {
        continue
      }
      files[String(relative.dropLast(url.pathExtension.count + 1))] = "\(folder)/\(relative)"
    }
    return files
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
