import Foundation
import Support
import TestSupport
import Testing

@testable import Captions

@Suite struct CaptionFileTests {
  private let folder: ScratchFolder

  init() throws { folder = try ScratchFolder() }

  private func clip(_ name: String) throws -> MediaClip {
    let path = folder.file(name)
    if !FileManager.default.fileExists(atPath: path) { try folder.write("", to: name) }
    return MediaClip(path: path, name: name)
  }

  private func text(_ name: String) throws -> String {
    try String(contentsOfFile: folder.file(name), encoding: .utf8)
  }

  private func file(_ name: String, order: [String] = []) throws -> CaptionFile {
    var file = try CaptionFile(path: folder.file(name))
    file.setOrder(try order.map(clip))
    return file
  }

  @Test(
    arguments: [
      (
        "d.json",
        "[\n  {\n    \"caption\": \"One, \\\"é\\\".\",\n    \"media_path\": \"a.mp4\"\n  },\n"
          + "  {\n    \"caption\": \"Two.\",\n    \"media_path\": \"b.mp4\"\n  }\n]"
      ),
      (
        "d.jsonl",
        "{\"caption\": \"One, \\\"é\\\".\", \"media_path\": \"a.mp4\"}\n"
          + "{\"caption\": \"Two.\", \"media_path\": \"b.mp4\"}\n"
      ),
      ("d.csv", "caption,media_path\r\n\"One, \"\"é\"\".\",a.mp4\r\nTwo.,b.mp4\r\n"),
    ] as [(String, String)])
  func newFilesHaveUpstreamsForm(name: String, expected: String) throws {
    var file = try file(name)
    #expect(try file.add("One, \"é\".", of: clip("a.mp4"), replaces: false) == .written)
    #expect(try file.add("Two.", of: clip("b.mp4"), replaces: false) == .written)
    #expect(try text(name) == expected)
    #expect(try self.file(name).doneClips.count == 2)
  }

  @Test func aTextFileStandsForTwo() throws {
    var file = try file("d.txt", order: ["a.mp4", "b.mp4"])
    _ = try file.add("Two\nlines.", of: clip("b.mp4"), replaces: false)
    _ = try file.add("One.", of: clip("a.mp4"), replaces: false)
    #expect(try text("d_captions.txt") == "Two lines.\nOne.\n")
    #expect(try text("d_paths.txt") == "b.mp4\na.mp4\n")
    #expect(!FileManager.default.fileExists(atPath: folder.file("d.txt")))
    #expect(try self.file("d.txt").doneClips.count == 2)
    try folder.write("One.\n", to: "d_captions.txt")
    #expect(message { _ = try self.file("d.txt") }.contains("has 1 lines"))
  }

  @Test func rowsDoNotDependOnWhichAnswerComesFirst() throws {
    var file = try file("d.json", order: ["a.mp4", "b.mp4", "c.mp4", "d.mp4"])
    for name in ["c.mp4", "a.mp4", "d.mp4", "b.mp4"] {
      _ = try file.add(name, of: clip(name), replaces: false)
    }
    #expect(file.rows.map(\.media) == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"])
    #expect(try self.file("d.json").rows == file.rows)
  }

  @Test func onlyMissingCaptionsAreSetAndTheRestStaysByteForByte() throws {
    let before =
      "[ {\"id\":7, \"video\":\"b.mp4\", \"caption\":\"By hand \\u00e9\"},\n"
      + "  {\"video\" : \"a.mp4\", \"text\": null, \"caption\": \"\"} ,\n"
      + "  {\"video\":\"c.mp4\", \"caption_review\":\"left_out\"}]\n"
    try folder.write(before, to: "d.json")
    var file = try file("d.json", order: ["a.mp4", "b.mp4", "c.mp4", "d.mp4"])
    #expect(file.doneClips.count == 2)
    #expect(try file.add("New.", of: clip("a.mp4"), replaces: false) == .written)
    #expect(try file.add("New.", of: clip("b.mp4"), replaces: false) == .kept)
    #expect(try file.add("New.", of: clip("c.mp4"), replaces: true) == .kept)
    #expect(
      try text("d.json") == before.replacing("\"caption\": \"\"}", with: "\"caption\": \"New.\"}"))
    #expect(try file.add("Last.", of: clip("d.mp4"), replaces: false) == .written)
    #expect(file.rows.map(\.media) == ["b.mp4", "a.mp4", "c.mp4", "d.mp4"])
  }

  @Test func whatOthersWriteMeanwhileIsKept() throws {
    try folder.write("video,caption\na.mp4,old a\nb.mp4,old b\nc.mp4,\n", to: "d.csv")
    for name in ["a.mp4", "b.mp4", "c.mp4", "d.mp4"] { _ = try clip(name) }
    var file = try file("d.csv")
    // An editor corrects one caption, fills in another, and adds a row.
    try folder.write(
      "video,caption\na.mp4,corrected\nb.mp4,old b\nc.mp4,filled in\nd.mp4,added\n", to: "d.csv")
    #expect(try file.add("new", of: clip("a.mp4"), replaces: true) == .kept)
    #expect(try file.add("new", of: clip("b.mp4"), replaces: true) == .written)
    #expect(try file.add("new", of: clip("c.mp4"), replaces: false) == .kept)
    #expect(try file.add("new", of: clip("d.mp4"), replaces: true) == .kept)
    #expect(
      try text("d.csv")
        == "video,caption\na.mp4,corrected\nb.mp4,new\nc.mp4,filled in\nd.mp4,added\n")
  }

  @Test func twoRunsAtOnceLoseNothing() throws {
    let path = folder.file("d.json")
    let clips = try (0..<20).map { try clip("\($0).mp4") }
    DispatchQueue.concurrentPerform(iterations: 2) { share in
      do {
        var file = try CaptionFile(path: path)
        for (index, clip) in clips.enumerated() where index % 2 == share {
          _ = try file.add("caption \(index)", of: clip, replaces: false)
        }
      } catch {
        Testing.Issue.record(error)
      }
    }
    #expect(try file("d.json").doneClips.count == 20)
    #expect(folder.files().allSatisfy { !$0.contains("lock") && !$0.contains("partial") })
  }

  @Test(
    arguments: [
      ("d.json", "[{\"media_path\": \"a.mp4\", \"caption\": \"x\"},\n {\"media", "d.json:2"),
      ("d.json", "{\"media_path\": \"a.mp4\"}", "d.json"),
      ("d.json", "[{\"caption\": \"x\"}]", "has no column of media files"),
      ("d.json", "[{\"media_path\": \"a.mp4\", \"caption\": 5}]", "must be a string"),
      ("d.csv", "media_path,caption\na.mp4,\"x\n", "a quote is not closed"),
      ("d.yaml", "", "unknown extension"),
    ] as [(String, String, String)])
  func filesThatCanNotBeReadAreRefusedAndLeftAlone(
    name: String, content: String, words: String
  ) throws {
    try folder.write(content, to: name)
    let text = message { _ = try file(name) }
    #expect(text.contains(words), "\(text)")
    #expect(try self.text(name) == content)
  }

  @Test func copiesAreNeverOverwritten() throws {
    #expect(try file("d.json").backUp() == nil)
    let first = "[{\"media_path\": \"a.mp4\", \"caption\": \"one\"}]"
    try folder.write(first, to: "d.json")
    #expect(try file("d.json").backUp() == folder.file("d.json.backup"))
    #expect(try file("d.json").backUp() == folder.file("d.json.backup"))
    try folder.write(first.replacing("one", with: "two"), to: "d.json")
    #expect(try file("d.json").backUp() == folder.file("d.json.backup-2"))
    #expect(try text("d.json.backup") == first)
  }

  @Test(.enabled(if: SmallDisk.isPossible, "mounting needs root"))
  func aFullDiskLeavesTheFileWhole() throws {
    let disk = try SmallDisk(kilobytes: 64)
    let path = "\(disk.path)/d.json"
    var file = try CaptionFile(path: path)
    _ = try file.add("small", of: clip("a.mp4"), replaces: false)
    let before = try String(contentsOfFile: path, encoding: .utf8)
    #expect(throws: WritingError.self) {
      _ = try file.add(
        String(repeating: "large ", count: 20_000), of: clip("b.mp4"), replaces: false)
    }
    #expect(try String(contentsOfFile: path, encoding: .utf8) == before)
    #expect(disk.files() == ["d.json"])
  }
}
