import Foundation
import Support

/// A file that a folder reader skips, and the reason.
public struct SkippedFile: Codable, Equatable, Sendable {
  /// The path relative to the folder.
  public let file: String
  /// The reason as one clause, with a remedy if there is one.
  public let reason: String

  public init(_ file: String, _ reason: String) { (self.file, self.reason) = (file, reason) }
}

/// The files that a folder reader skips, so that none is skipped silently.
public struct SkippedFiles: Codable, Equatable, Sendable {
  public var files: [SkippedFile] = []
  /// The number of hidden files and folders (names that begin with a dot), except ltx's own.
  public var hiddenCount = 0

  public init() {}

  public var isEmpty: Bool { files.isEmpty && hiddenCount == 0 }

  /// One line for each reason, with the first files that it applies to.
  ///
  /// - Parameters:
  ///   - reasons: The maximum number of lines.
  ///   - names: The maximum number of files per line.
  public func notes(reasons: Int = 20, names: Int = 5) -> [String] {
    var order: [String] = []
    var byReason: [String: [String]] = [:]
    for skipped in files {
      if byReason[skipped.reason] == nil { order.append(skipped.reason) }
      byReason[skipped.reason, default: []].append(skipped.file)
    }
    var notes = order.prefix(reasons).map { reason in
      let files = byReason[reason] ?? []
      let more = files.count > names ? " and \(grouped(files.count - names)) more" : ""
      let what = files.count == 1 ? "skipped" : "skipped \(grouped(files.count)) files"
      return "\(what) \(files.prefix(names).joined(separator: ", "))\(more): \(reason)"
    }
    if order.count > reasons {
      let rest = order.dropFirst(reasons).reduce(0) { $0 + (byReason[$1]?.count ?? 0) }
      notes.append("skipped \(grouped(rest)) more files for other reasons")
    }
    if hiddenCount > 0 {
      notes.append("skipped \(grouped(hiddenCount)) hidden \(hiddenCount == 1 ? "file" : "files")")
    }
    return notes
  }
}

/// A number with commas between groups of three digits: `1,234`.
public func grouped(_ number: Int) -> String {
  let digits = String(abs(number))
  var result = ""
  for (place, digit) in digits.enumerated() {
    if place > 0, (digits.count - place).isMultiple(of: 3) { result += "," }
    result.append(digit)
  }
  return number < 0 ? "-" + result : result
}

/// The files of a folder and its subfolders, and the other entries that were found.
public struct FolderListing: Sendable {
  /// The relative paths of files and of links to files, sorted. Links without a target are
  /// included, so that reading them fails with their name.
  public private(set) var files: [String] = []
  /// Skipped entries: links to folders, folders that can't be listed, pipes, sockets and devices.
  public private(set) var skipped = SkippedFiles()

  /// Whether a hidden name is one of ltx's own: caches, lists of references, locks, unfinished
  /// files.
  private static func isOwn(_ name: String) -> Bool {
    name == ".precomputed" || name.hasPrefix(".ltx") || name.contains(".ltx-")
  }

  /// - Parameter exclusion: Called with the relative path of each subfolder; returns a reason to
  ///   skip it, an empty one to skip it silently, or nil to include it.
  /// - Throws: `MediaError` if the folder itself can't be listed.
  public init(_ root: String, exclusion: (String) throws -> String? = { _ in nil }) throws {
    if let reason = try add(root, below: "", exclusion) {
      throw MediaError(
        .notReadable, file: root, "can't be listed (\(reason))",
        remedy: "Check the permissions of the folder.")
    }
    files.sort()
    skipped.files.sort { $0.file < $1.file }
  }

  /// Adds the files below a folder.
  ///
  /// - Returns: The reason why the folder can't be listed; nil if it was.
  private mutating func add(
    _ root: String, below: String, _ exclusion: (String) throws -> String?
  ) throws -> String? {
    let folder = below.isEmpty ? root : "\(root)/\(below)"
    let names: [String]
    do {
      names = try FileManager.default.contentsOfDirectory(atPath: folder)
    } catch {
      return Support.reason(of: error)
    }
    for name in names {
      if name.hasPrefix(".") {
        if !Self.isOwn(name) { skipped.hiddenCount += 1 }
        continue
      }
      let relative = below.isEmpty ? name : "\(below)/\(name)"
      var status = stat()
      guard lstat("\(root)/\(relative)", &status) == 0 else {
        skip(relative, "its name is not valid UTF-8, or it was removed meanwhile; rename it")
        continue
      }
      let isLink = status.st_mode & S_IFMT == S_IFLNK
      if isLink, stat("\(root)/\(relative)", &status) != 0 {
        files.append(relative)
        continue
      }
      switch status.st_mode & S_IFMT {
      case S_IFREG: files.append(relative)
      case S_IFDIR:
        if isLink {
          skip(
            relative, "links to folders are not followed; give the folder itself, or link its files"
          )
        } else if let reason = try exclusion(relative) {
          if !reason.isEmpty { skip(relative, reason) }
        } else if let reason = try add(root, below: relative, exclusion) {
          skip(relative, "the folder can't be listed (\(reason)); check its permissions")
        }
      default: skip(relative, "a pipe, a socket or a device")
      }
    }
    return nil
  }

  private mutating func skip(_ file: String, _ reason: String) {
    skipped.files.append(SkippedFile(file, reason))
  }
}
