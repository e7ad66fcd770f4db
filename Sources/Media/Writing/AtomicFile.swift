import Foundation
import Support

package typealias AtomicFile = Support.AtomicFile

extension AtomicFile {
  /// - Throws: here and while it is written, `MediaError` of kind `.writing`.
  package convenience init(path: String) throws {
    // Not left to the end of the work, when the file is to get its name.
    if isFolder(path) {
      throw MediaError(.writing, file: path, "is a folder", remedy: "Choose another name.")
    }
    try self.init(path: path) { MediaError($0) }
  }

  /// Writes a whole file at once.
  package static func write(_ data: Data, to path: String) throws {
    let file = try AtomicFile(path: path)
    try data.withUnsafeBytes { try file.write($0) }
    try file.commit()
  }
}

extension MediaError {
  init(_ error: WritingError) {
    self.init(.writing, file: error.path, error.problem, remedy: error.remedy + ".")
  }
}
