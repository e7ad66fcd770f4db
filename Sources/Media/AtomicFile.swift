import Foundation

/// A file that appears under its name only when it is whole: written beside it, then renamed.
struct AtomicFile {
  let path: String
  let temporaryPath: String

  /// - Throws: `MediaError` if the folder does not exist or may not be written to.
  init(path: String) throws {
    let target = URL(fileURLWithPath: path)
    let folder = target.deletingLastPathComponent().path
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder), isFolder.boolValue else {
      throw MediaError(.writing, file: path, "its folder does not exist", remedy: "Make the folder first.")
    }
    guard FileManager.default.isWritableFile(atPath: folder) else {
      throw MediaError(
        .writing, file: path, "its folder may not be written to", remedy: "Choose another folder.")
    }
    if FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), isFolder.boolValue {
      throw MediaError(.writing, file: path, "is a folder", remedy: "Choose another name.")
    }
    self.path = path
    temporaryPath = folder + "/." + target.lastPathComponent + ".partial"
  }

  /// Puts the finished temporary file on the disk and under its name.
  func commit() throws {
    let descriptor = open(temporaryPath, O_RDONLY)
    guard descriptor >= 0 else { throw failure() }
    let synced = fsync(descriptor)
    let code = errno
    close(descriptor)
    if synced != 0 { throw failure(code) }
    if rename(temporaryPath, path) != 0 { throw failure() }
  }

  /// Removes what was written so far.
  func discard() { unlink(temporaryPath) }

  /// Writes a whole file at once.
  static func write(_ data: Data, to path: String) throws {
    let file = try AtomicFile(path: path)
    do {
      try data.write(to: URL(fileURLWithPath: file.temporaryPath))
    } catch {
      file.discard()
      throw MediaError(
        .writing, file: path, "cannot be written (\(error.localizedDescription))",
        remedy: "Check the room on the disk.")
    }
    do { try file.commit() } catch {
      file.discard()
      throw error
    }
  }

  private func failure(_ code: Int32 = errno) -> MediaError {
    MediaError(
      .writing, file: path, "cannot be finished (\(String(cString: strerror(code))))",
      remedy: "Check the room on the disk and the rights of its folder.")
  }
}
