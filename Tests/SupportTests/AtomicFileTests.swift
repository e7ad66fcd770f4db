import Foundation
import Support
import Testing

@Suite struct AtomicFileTests {
  private let folder: Folder
  init() throws { folder = try Folder() }

  @Test func aFileIsWholeOrNotThereAndTwoWritersDontMeet() throws {
    let path = folder.file("a.bin")
    let first = try file(path)
    let second = try file(path)
    try write("first", first)
    try write("second", second)
    #expect(
      folder.names.count == 2
        && folder.names.allSatisfy { $0.hasPrefix(".a.bin.ltx-") && $0.hasSuffix(".partial") })
    try first.commit()
    #expect(folder.text("a.bin") == "first")
    try second.commit()
    #expect(folder.text("a.bin") == "second" && folder.names == ["a.bin"])
    do { try write("third", try file(path)) }
    #expect(folder.names == ["a.bin"])
  }

  @Test func leftoversOfDeadProcessesAreRemovedAndThoseOfLivingOnesKept() throws {
    let living = try file(folder.file("living"))
    let name = (living.temporaryPath as NSString).lastPathComponent
    let tag = name.dropLast(".partial".count).suffix(19).prefix(6)
    let dead = ".out.safetensors.ltx-\(tag)0000000000abc.partial"
    // The file of another host, whose process may still be running.
    let elsewhere =
      ".out.safetensors.ltx-\(tag == "zzzzzz" ? "yyyyyy" : "zzzzzz")0000000000abc.partial"
    let strangers = [".out.partial", "x.ltx-\(tag)0000000000abc.partial", ".y.ltx-abc.partial"]
    let inside = try Folder(folder.file("inside"))
    for name in [dead, elsewhere] + strangers { try inside.write("half", name) }
    try FileManager.default.moveItem(atPath: living.temporaryPath, toPath: inside.file(name))
    _ = try file(inside.file("new"))
    #expect(inside.names == ([elsewhere, name] + strangers).sorted())
    // Lock files are removed with their holders.
    let locked = try Folder(folder.file("locked"))
    let held = try OutputLock(folder: locked.path, purpose: "a test") { Issue.record("\($0)") }
    let text = try #require(locked.text(".ltx.lock"))
    for name in [".a.ltx.lock", ".ltx-0-of-2.lock"] { try locked.write(text, name) }
    try locked.write(text.replacing(" on host ", with: " on host elsewhere-"), ".b.ltx.lock")
    _ = try file(locked.file("new"))
    #expect(locked.names == [".b.ltx.lock", ".ltx.lock"])
    held.release()
    // A file that nobody has written to for an hour.
    let other = try Folder(folder.file("other"))
    try other.write("half", elsewhere)
    try FileManager.default.setAttributes(
      [.modificationDate: Date(timeIntervalSinceNow: -4000)], ofItemAtPath: other.file(elsewhere))
    _ = try file(other.file("new"))
    #expect(other.names == [])
  }

  @Test func refusalsOfTheSystemAreReportedInASentence() throws {
    #expect(
      message { _ = try file(folder.file("no/a")) }
        == "\(folder.path)/no/a: can't be written (No such file or directory). Create the folder first."
    )
    try folder.write("", "file")
    #expect(
      message { _ = try file(folder.file("file/a")) }.contains(
        "(Not a directory). A part of the path is a file"))
    let long = String(repeating: "ü", count: 200)
    #expect(
      message { try AtomicFile.write(Data(), to: folder.file(long)) }.contains(
        "(File name too long). Choose a shorter name."))
    #expect(folder.names == ["file"])
    #expect(
      WritingError(path: "a", code: ENOSPC).description
        == "a: can't be written (No space left on device). Free some space on the disk and try again."
    )
  }

  @Test func aFolderOfTheSameNameIsKept() throws {
    let words = "can't be written (Is a directory). A folder has that name; choose another name."
    func makeFolder(_ name: String) throws {
      try FileManager.default.createDirectory(
        atPath: folder.file(name), withIntermediateDirectories: false)
    }
    try makeFolder("early")
    #expect(
      message { _ = try file(folder.file("early")) } == "\(folder.path)/early: \(words)")
    #expect(folder.names == ["early"])
    // A folder that appears while the file is written.
    do {
      let late = try file(folder.file("late"))
      try makeFolder("late")
      #expect(message { try late.commit() } == "\(folder.path)/late: \(words)")
    }
    #expect(folder.names == ["early", "late"])
  }

  private func file(_ path: String) throws -> AtomicFile { try AtomicFile(path: path) }

  private func write(_ text: String, _ file: AtomicFile) throws {
    try Data(text.utf8).withUnsafeBytes { try file.write($0) }
  }
}

@Suite struct ErrorTextTests {
  @Test func foundationsErrorsBecomeAPathAndAReason() throws {
    let folder = try Folder()
    #expect(
      message { try Data("x".utf8).write(to: URL(fileURLWithPath: folder.file("no/x"))) }
        == "\(folder.path)/no/x: No such file or directory")
    #expect(
      message {
        try FileManager.default.createDirectory(
          atPath: "/dev/null/x", withIntermediateDirectories: true)
      }
        == "/dev/null/x: Not a directory")
    #expect(
      message { _ = try FileHandle(forReadingFrom: URL(fileURLWithPath: folder.file("none"))) }
        == "\(folder.path)/none: No such file or directory")
    #expect(
      message {
        try FileHandle(forWritingTo: URL(fileURLWithPath: "/dev/full")).write(
          contentsOf: Data("x".utf8))
      }
        == "No space left on device")
    #expect(message { throw POSIXError(.EDQUOT) } == "Disk quota exceeded")
    #expect(
      message { _ = try JSONDecoder().decode([String: Int].self, from: Data(#"{"a":"b"}"#.utf8)) }
        .hasPrefix(
          "a: "))
    struct Own: Error, CustomStringConvertible { let description = "our own words" }
    #expect(message { throw Own() } == "our own words")
  }
}

/// A temporary folder, removed with the test.
final class Folder: Sendable {
  let path: String

  init(_ path: String = NSTemporaryDirectory() + "ltx-\(UUID().uuidString)") throws {
    self.path = path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ name: String) -> String { "\(path)/\(name)" }
  func write(_ text: String, _ name: String) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: file(name)))
  }
  func text(_ name: String) -> String? {
    FileManager.default.contents(atPath: file(name)).map { String(decoding: $0, as: UTF8.self) }
  }
  var names: [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? ["?"]).sorted()
  }
}

/// The text of the error that a body throws.
func message(_ body: () throws -> Void) -> String {
  do { try body() } catch { return describe(error) }
  return "(nothing was thrown)"
}
