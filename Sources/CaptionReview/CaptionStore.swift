import Foundation
import Support

/// A place where a dataset keeps its captions.
protocol CaptionStore: Sendable {
  /// The path of the dataset, as the user gave it.
  var path: String { get }
  /// Whether rows can be marked.
  var keepsMarks: Bool { get }

  /// Reads all captions.
  ///
  /// - Throws: `Issue` for a dataset that can't be used.
  func read() throws -> ReviewContent

  /// Writes changed captions and marks. Nothing else in the files changes.
  ///
  /// - Parameters:
  ///   - edits: Changes of rows that exist.
  ///   - content: The content that was read last, while the store was locked.
  /// - Throws: `WritingError`, or `Issue` for an unknown mark.
  func write(_ edits: [ReviewEdit], over content: ReviewContent) throws

  /// Keeps other programs of this package from writing, until the lock is released.
  ///
  /// - Throws: `Issue` if another program doesn't finish its writing.
  func lock() throws -> OutputLock
}

extension CaptionStore {
  /// The name of the lock's holder.
  static var purpose: String { "ltx caption --review" }

  /// Returns the bytes of a file, or an empty list if it doesn't exist.
  ///
  /// - Throws: `Issue` for a file that can't be read.
  static func bytes(of path: String) throws(Issue) -> [UInt8] {
    do {
      return try Array(Data(contentsOf: URL(fileURLWithPath: path)))
    } catch {
      if errorNumber(of: error) == ENOENT { return [] }
      throw Issue([.file(path)], "can't be read: \(reason(of: error))")
    }
  }

  /// Writes a file atomically. A symbolic link stays, and its target is replaced.
  static func write(_ bytes: [UInt8], to path: String) throws {
    try AtomicFile.write(
      Data(bytes), to: URL(fileURLWithPath: path).resolvingSymlinksInPath().path)
  }
}

/// Returns the store for a dataset.
///
/// - Parameter columns: The columns that the user named; the others are found by their names.
/// - Throws: `Issue` for a dataset that can't be used.
func openCaptionStore(_ path: String, columns: ReviewColumns) throws -> any CaptionStore {
  if isFolder(path) { return FolderCaptionStore(path: path) }
  if (path as NSString).pathExtension.lowercased() == "txt" {
    return try LineCaptionStore(path: path)
  }
  return RowCaptionStore(path: path, columns: columns)
}
