import Foundation
import Media
import Support

/// Where files are written.
enum OutputPath {
  /// - Throws: `MediaError` if the folder isn't there and can't be made.
  static func makeFolder(_ folder: String) throws {
    do {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    } catch {
      throw MediaError(
        .writing, file: folder, "no folder can be made here (\(reason(of: error)))",
        remedy: "Choose another output folder.")
    }
  }

  /// The folder that a file goes into.
  static func makeFolder(of file: String) throws {
    let folder = (file as NSString).deletingLastPathComponent
    if !folder.isEmpty { try makeFolder(folder) }
  }

  /// How one gets from a folder to a file; both absolute.
  static func relative(from folder: String, to file: String) -> String {
    let (from, to) = (folder.split(separator: "/"), file.split(separator: "/"))
    let shared = zip(from, to).prefix { $0 == $1 }.count
    let up = [Substring](repeating: "..", count: from.count - shared)
    return (up + to[shared...]).joined(separator: "/")
  }
}
