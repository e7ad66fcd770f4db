import Foundation
import Testing

@testable import Support

/// Folders and files, and reasons why creating a folder fails.
@Suite struct PathsTests {
  private let root = NSTemporaryDirectory() + "ltx-paths-\(UUID().uuidString)"

  @Test func kindsOfPaths() throws {
    defer { try? FileManager.default.removeItem(atPath: root) }
    try makeFolder(root + "/a/b")
    try Data("x".utf8).write(to: URL(fileURLWithPath: root + "/file"))
    for (link, target) in [("toFolder", "a"), ("toFile", "file"), ("toNothing", "none")] {
      try FileManager.default.createSymbolicLink(
        atPath: root + "/" + link, withDestinationPath: root + "/" + target)
    }
    for name in ["", "/a", "/a/b", "/a/", "/toFolder"] {
      #expect(isFolder(root + name) && !isFile(root + name), "\(name)")
    }
    for name in ["/file", "/toFile"] {
      #expect(isFile(root + name) && !isFolder(root + name), "\(name)")
    }
    for path in [root + "/none", root + "/toNothing", root + "/file/below", ""] {
      #expect(!isFile(path) && !isFolder(path), "\(path)")
    }
    #expect(isFile("/dev/null"))
  }

  @Test func folderThatCannotBeMade() throws {
    defer { try? FileManager.default.removeItem(atPath: root) }
    try makeFolder(root)
    // An existing folder is not an error.
    try makeFolder(root)
    try Data().write(to: URL(fileURLWithPath: root + "/file"))
    let below = root + "/file/below"
    let error = #expect(throws: WritingError.self) { try makeFolder(below) }
    #expect(error?.path == below && error?.code == ENOTDIR)

    struct Own: Error, Equatable { let reason: String }
    #expect(throws: Own(reason: describe(errno: ENOTDIR))) {
      try makeFolder(below) { Own(reason: reason(of: $0)) }
    }
  }
}
