import Foundation
import Support

/// A file that a folder reader skips, and why.
public struct SkippedFile: Codable, Equatable, Sendable {
  /// Relative to the folder.
  public let file: String
  /// One clause, with what to do where something can be done.
  public let reason: String

  public init(_ file: String, _ reason: String) { (self.file, self.reason) = (file, reason) }
}

/// The files that a folder reader skips, so that none is skipped silently.
public struct SkippedFiles: Codable, Equatable, Sendable {
  public var files: [SkippedFile] = []
  /// Files and folders whose names begin with a dot; those that ltx writes itself don't count.
  public var hiddenCount = 0

  public init() {}

  public var isEmpty: Bool { files.isEmpty && hiddenCount == 0 }

  /// A line for each reason, with the first files that it holds for.
  ///
  /// - Parameters:
  ///   - reasons: lines, at most.
  ///   - names: files in a line, at most.
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

/// A number with commas between thousands: `1,234`.
public func grouped(_ number: Int) -> String {
  let digits = String(abs(number))
  var result = ""
  for (place, digit) in digits.enumerated() {
    if place > 0, (digits.count - place).isMultiple(of: 3) { result += "," }
    result.append(digit)
  }
  return number < 0 ? "-" + result : result
}

/// The files of a folder and its sub-folders, and what lies there besides.
public struct FolderListing: Sendable {
  /// Relative paths of files and of links to files, sorted. A link whose target is missing is among
  /// them, so that reading it fails with its name.
  public private(set) var files: [String] = []
  /// Links to folders, folders that can't be listed, pipes, sockets and devices.
  public private(set) var skipped = SkippedFiles()

  /// Whether ltx itself writes a hidden name: caches, lists of references, locks, unfinished files.
  private static func isOwn(_ name: String) -> Bool {
    name == ".precomputed" || name.hasPrefix(".ltx") || name.contains(".ltx-")
  }

  /// - Parameter exclusion: called with the relative path of each sub-folder; a reason skips it, an
  ///   empty one without a word, nil keeps it.
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
