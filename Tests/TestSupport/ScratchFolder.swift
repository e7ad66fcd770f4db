import Foundation
import Testing

/// A temporary folder for a test, removed when the test is done.
public final class ScratchFolder: Sendable {
  public let path: String

  public init() throws {
    path =
      FileManager.default.temporaryDirectory.appendingPathComponent("ltx-test-\(UUID().uuidString)")
      .path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit {
    do { try FileManager.default.removeItem(atPath: path) } catch {
      Issue.record("cannot remove \(path): \(error)")
    }
  }

  public func file(_ name: String) -> String { path + "/" + name }

  /// Writes a text file, and creates its parent folders.
  @discardableResult
  public func write(_ text: String, to name: String) throws -> String {
    let url = URL(fileURLWithPath: file(name))
    try FileManager.default.createDirectory(
      at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(text.utf8).write(to: url)
    return url.path
  }

  /// The sorted relative paths of all files below a folder, including hidden ones.
  public func files(below folder: String = ".") -> [String] {
    let root = folder == "." ? path : file(folder)
    guard let found = FileManager.default.enumerator(atPath: root) else { return [] }
    var isFolder: ObjCBool = false
    return found.compactMap { $0 as? String }.filter {
      FileManager.default.fileExists(atPath: "\(root)/\($0)", isDirectory: &isFolder)
        && !isFolder.boolValue
    }.sorted()
  }
}

/// The text of the error that the body throws.
public func message(of body: () throws -> Void) -> String {
  do { try body() } catch { return "\(error)" }
  return "(nothing was thrown)"
}
