import Foundation

/// Returns whether a path leads to a folder; links are followed.
public func isFolder(_ path: String) -> Bool {
  var isFolder: ObjCBool = false
  return FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) && isFolder.boolValue
}

/// Returns whether a path leads to something that exists and is not a folder; links are followed.
public func isFile(_ path: String) -> Bool {
  var isFolder: ObjCBool = false
  return FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) && !isFolder.boolValue
}

/// Creates a folder and its missing parents.
///
/// - Parameter failure: makes the error that is thrown from the system's.
public func makeFolder<Failure: Error>(
  _ path: String, orThrow failure: (any Error) -> Failure
) throws(Failure) {
  do {
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  } catch {
    throw failure(error)
  }
}

/// Creates a folder and its missing parents.
///
/// - Throws: `WritingError` with the reason.
public func makeFolder(_ path: String) throws(WritingError) {
  try makeFolder(path) { WritingError(path: path, $0) }
}
