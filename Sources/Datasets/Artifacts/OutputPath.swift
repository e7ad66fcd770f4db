import Foundation
import Media
import Support

/// Helpers for the paths of output files.
enum OutputPath {
  /// Creates a folder unless it exists.
  ///
  /// - Throws: `MediaError` if the folder can't be created.
  static func makeFolder(_ folder: String) throws {
    try Support.makeFolder(folder) {
      MediaError(
        .writing, file: folder, "the folder can't be created (\(reason(of: $0)))",
        remedy: "Choose another output folder.")
    }
  }

  /// Creates the folder of a file unless it exists.
  static func makeFolder(of file: String) throws {
    let folder = (file as NSString).deletingLastPathComponent
    if !folder.isEmpty { try makeFolder(folder) }
  }

  /// Returns the path of a file relative to a folder; both are absolute.
  static func relative(from folder: String, to file: String) -> String {
    let (from, to) = (folder.split(separator: "/"), file.split(separator: "/"))
    let shared = zip(from, to).prefix { $0 == $1 }.count
    let up = [Substring](repeating: "..", count: from.count - shared)
    return (up + to[shared...]).joined(separator: "/")
  }
}
