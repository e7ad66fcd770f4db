import Foundation
import Synchronization

/// Finds the path that the user probably meant instead of one that does not exist.
public enum MissingFile {
  /// - Parameter path: The path of a missing file or folder.
  /// - Returns: A sentence with the problem of the path and the remedy; nil if there is no similar
  ///   path.
  public static func hint(_ path: String) -> String? {
    let exists = FileManager.default.fileExists(atPath:)
    let parts = path.split(separator: "/", omittingEmptySubsequences: true).map(String.init)
    if let url = parts.firstIndex(where: { $0.lowercased() == "file:" }) {
      let rest = "/" + parts[(url + 1)...].joined(separator: "/")
      let plain = [rest, rest.removingPercentEncoding ?? rest].first(where: exists)
      return
        "It is a file:// URL, and a plain path is expected\(plain.map { ": write \($0)" } ?? "")."
    }
    if parts.contains(where: {
      $0.range(of: "^(https?|s3|gs|hf):$", options: .regularExpression) != nil
    }) {
      return "It is a URL. Download the file, and give its path."
    }
    if let home = parts.firstIndex(where: { $0.hasPrefix("~") }) {
      let expanded = (parts[home...].joined(separator: "/") as NSString).expandingTildeInPath
      return
        "~ is expanded by shells only. Write \(exists(expanded) ? expanded : "the whole path")."
    }
    if let variable = parts.first(where: {
      $0.range(of: "^\\$[A-Za-z_{]|^%[A-Za-z_]+%$", options: .regularExpression) != nil
    }) {
      return "Variables such as \(variable) are expanded by shells only. Write the whole path."
    }
    if path.contains("\\") { return backslashes(path) }
    let unquoted = path.filter { !"\"'“”‘’`".contains($0) }
    if unquoted != path, exists(unquoted) {
      return "It stands in quotes, and \(unquoted) is there: leave them out."
    }
    if let decoded = path.removingPercentEncoding, decoded != path, exists(decoded) {
      return "It has percent signs as a URL has, and \(decoded) is there: write that."
    }
    if let target = brokenLink(path) { return "It is a link to \(target), which does not exist." }
    return nearest(path, parts)
  }

  private static func backslashes(_ path: String) -> String {
    let slashed = path.replacingOccurrences(of: "\\", with: "/")
    if FileManager.default.fileExists(atPath: slashed) {
      return
        "Its backslashes separate folders on Windows only, and \(slashed) is there: write / instead of \\."
    }
    let isDrive = path.range(of: "(^|/)[A-Za-z]:\\\\", options: .regularExpression) != nil
    return isDrive
      ? "It is a path of Windows. Write where the file is on this machine, with / between folders."
      : "It has backslashes, which separate folders on Windows only. Write / instead of \\."
  }

  private static func brokenLink(_ path: String) -> String? {
    var status = stat()
    guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFLNK else { return nil }
    do { return try FileManager.default.destinationOfSymbolicLink(atPath: path) } catch {
      return nil
    }
  }

  /// Walks to the first missing component of the path, and looks for a similar one.
  private static func nearest(_ path: String, _ parts: [String]) -> String? {
    var folder = path.hasPrefix("/") ? "/" : "."
    for (place, part) in parts.enumerated() {
      let next = folder == "/" ? "/\(part)" : "\(folder)/\(part)"
      if FileManager.default.fileExists(atPath: next) {
        folder = next
        continue
      }
      let rest = parts[place...].joined(separator: "/")
      if folder != ".", path.hasPrefix("/"), FileManager.default.fileExists(atPath: rest) {
        return
          "\(rest) is there from the current folder, but media paths are relative to the dataset's folder."
      }
      guard let (name, difference) = similar(to: part, in: folder) else { return nil }
      let found = folder == "." ? name : folder == "/" ? "/\(name)" : "\(folder)/\(name)"
      return "\(found) is there: its name differs in \(difference)."
    }
    return nil
  }

  private static func similar(to name: String, in folder: String) -> (
    name: String, difference: String
  )? {
    let names = Listing.shared.names(of: folder, folded: folded(name))
    // Bytes are compared because strings are equal regardless of their Unicode normalization.
    guard let near = names.first(where: { !$0.utf8.elementsEqual(name.utf8) }) else {
      return Listing.shared.name(of: folder, stem: folded((name as NSString).deletingPathExtension))
        .map {
          ($0, "its extension")
        }
    }
    if near == name { return (near, "the Unicode normalization of its letters") }
    if near.lowercased() == name.lowercased() { return (near, "upper and lower case") }
    return (near, "spaces or invisible characters")
  }

  /// A name without easily confused differences: case, Unicode normalization, surrounding spaces,
  /// invisible characters.
  public static func folded(_ name: String) -> String {
    var result = String.UnicodeScalarView()
    for scalar in name.precomposedStringWithCompatibilityMapping.lowercased().unicodeScalars {
      switch scalar.properties.generalCategory {
      case .control, .format, .surrogate, .spaceSeparator, .lineSeparator, .paragraphSeparator:
        continue
      default: result.append(scalar)
      }
    }
    return String(result)
  }

  /// The last listed folder: thousands of rows may miss their files in the same one.
  private final class Listing: Sendable {
    static let shared = Listing()

    private struct Content {
      var folder = ""
      var modified = timespec()
      var byFolded: [String: [String]] = [:]
      var byStem: [String: [String]] = [:]
    }
    private let content = Mutex(Content())

    func names(of folder: String, folded name: String) -> [String] {
      with(folder) { $0.byFolded[name] ?? [] }
    }

    /// The only file with a name, regardless of its extension.
    func name(of folder: String, stem: String) -> String? {
      with(folder) { content in
        content.byStem[stem].flatMap { $0.count == 1 ? $0.first : nil }
      }
    }

    private static func list(_ folder: String) -> [String] {
      do {
        return try FileManager.default.contentsOfDirectory(atPath: folder)
      } catch {
        return []  // no hints from a folder that can't be listed
      }
    }

    private func with<R: Sendable>(_ folder: String, _ body: (Content) -> R) -> R {
      var status = stat()
      stat(folder, &status)
      let modified = status.st_mtim
      return content.withLock { content in
        let isKnown =
          content.folder == folder && content.modified.tv_sec == modified.tv_sec
          && content.modified.tv_nsec == modified.tv_nsec
        if !isKnown {
          content = Content(folder: folder, modified: modified)
          for name in Self.list(folder) {
            content.byFolded[MissingFile.folded(name), default: []].append(name)
            if let media = MediaExtension(ofFile: name), media.obstacle == nil {
              content.byStem[
                MissingFile.folded((name as NSString).deletingPathExtension), default: []
              ].append(name)
            }
          }
        }
        return body(content)
      }
    }
  }
}
