import Foundation
import Support
import Testing

@Suite struct OutputLockTests {
  private let folder: Folder
  init() throws { folder = try Folder() }

  private func lock(_ path: String, _ share: WorkShare? = nil) throws -> OutputLock {
    try OutputLock(folder: path, purpose: "ltx train", share: share) { Issue.record("\($0)") }
  }

  @Test func aFolderHasOneWriterWhoIsNamed() throws {
    let out = folder.file("a/b")
    let first = try lock(out)
    let refusal = message { _ = try lock(out + "/") }
    #expect(
      refusal.hasPrefix(
        "\(out)/: another process is writing here (ltx train, process \(getpid()) on host "))
    #expect(
      refusal.contains(", started 2")
        && refusal.hasSuffix(" UTC). Wait until it ends, stop it, or choose another place."))
    first.release()
    #expect(folder.names.isEmpty, "a folder made for the lock goes with it")
    let second = try lock(out)
    try Data().write(to: URL(fileURLWithPath: out + "/result"))
    second.release()
    #expect(try FileManager.default.contentsOfDirectory(atPath: out) == ["result"])
  }

  @Test func aLockFileThatAKilledProcessLeftBlocksNobody() throws {
    try folder.write("ltx train, process 1 on host elsewhere, started long ago\n", ".ltx.lock")
    try lock(folder.path).release()
    #expect(folder.names.isEmpty)
  }

  @Test func processesThatShareAFolderLockItTogether() throws {
    let shares = try (0..<3).map { try lock(folder.path, .init(index: $0, count: 3)) }
    #expect(
      message { _ = try lock(folder.path, .init(index: 1, count: 3)) }.contains("another process"))
    #expect(
      message { _ = try lock(folder.path, .init(index: 3, count: 4)) }.contains("another process"))
    #expect(message { _ = try lock(folder.path) }.contains("process \(getpid())"))
    shares[0].release()
    #expect(message { _ = try lock(folder.path) }.contains("another process"))
    shares[1].release()
    shares[2].release()
    #expect(folder.names.isEmpty)
    let whole = try lock(folder.path)
    #expect(
      message { _ = try lock(folder.path, .init(index: 0, count: 3)) }.contains("another process"))
    whole.release()
  }

  @Test func aFileHasOneWriterAndItsNeighborsOthers() throws {
    let first = try OutputLock(file: folder.file("a.mp4"), purpose: "ltx generate") {
      Issue.record("\($0)")
    }
    let other = try OutputLock(file: folder.file("b.mp4"), purpose: "ltx generate") {
      Issue.record("\($0)")
    }
    #expect(
      message { _ = try OutputLock(file: folder.file("a.mp4"), purpose: "ltx generate") { _ in } }
        .hasPrefix("\(folder.path)/a.mp4: another process is writing here (ltx generate, "))
    first.release()
    other.release()
    #expect(folder.names.isEmpty)
  }

  @Test func aFolderThatCantBeWrittenSaysSo() {
    #expect(
      message { _ = try lock("/dev/null/x") }
        == "/dev/null/x: can't be written (Not a directory). A part of the path is a file; choose another folder."
    )
  }
}
