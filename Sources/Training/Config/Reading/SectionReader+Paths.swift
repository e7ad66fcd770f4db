import Foundation

extension SectionReader {
  enum PathKind { case file, folder, any }

  /// Reports a path that leads nowhere.
  ///
  /// - Parameters:
  ///   - path: nothing is said of nil and of an empty one, which is reported elsewhere.
  ///   - hint: what to do, after the message.
  func checkExists(_ key: String, _ path: String?, _ kind: PathKind, hint: String = "") {
    guard reading.checksPaths, let path, !path.isEmpty else { return }
    var isFolder: ObjCBool = false
    if !FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) {
      report(key, "\(path) does not exist\(hint)")
    } else if kind == .file, isFolder.boolValue {
      report(key, "\(path) is a folder; it must be a file")
    } else if kind == .folder, !isFolder.boolValue {
      report(key, "\(path) is no folder")
    }
  }
}
