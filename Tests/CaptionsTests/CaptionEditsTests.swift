import Foundation
import Support
import TestSupport
import Testing

@testable import Captions

/// Captions changed in the text of their files: everything else stays unchanged, byte for byte.
@Suite struct CaptionEditsTests {
  private func edited(
    _ text: String, _ path: String, column: String = "caption",
    _ edit: (inout CaptionEdits) -> Void
  ) throws -> String {
    var edits = try CaptionEdits(Array(text.utf8), path: path, captionColumn: column)
    edit(&edits)
    return String(decoding: edits.bytes, as: UTF8.self)
  }

  @Test(arguments: [
    ("a.json", "[{\"caption\":\"one\", \"media_path\": \"a\"},\n {\"media_path\": \"b\"}]"),
    ("a.jsonl", "{\"caption\":\"one\"}\r\n\n{\"media_path\": \"b\"}"),
    ("a.csv", "\u{FEFF}caption,media_path\r\n\"one\",a\r\n\r\n,b"),
    ("a_captions.txt", "\u{FEFF}one\r\n\ntwo"), ("a_captions.TXT", "\n\n"),
  ])
  func nothingChangesWithoutEdits(path: String, text: String) throws {
    let edits = try CaptionEdits(Array(text.utf8), path: path)
    #expect(edits.rowCount >= 2 && edits.bytes == Array(text.utf8))
  }

  @Test func captionsOfEachFormat() throws {
    #expect(
      try edited(#"[{"caption":"one", "media_path": "a"}]"#, "a.json") { $0.set(row: 0, to: "é\n") }
        == #"[{"caption":"é\n", "media_path": "a"}]"#)
    #expect(
      try edited("{\"text\": \"one\"}\r\n", "a.jsonl", column: "text") { $0.set(row: 0, to: "1") }
        == "{\"text\": \"1\"}\r\n")
    #expect(
      try edited("caption,media_path\r\none,a\r\n", "a.csv") { $0.set(row: 0, to: "1, 2") }
        == "caption,media_path\r\n\"1, 2\",a\r\n")
    #expect(
      try edited("one\r\ntwo\nthree", "a.txt") {
        $0.set(row: 0, to: "1\n2\r\n3\r4")
        $0.set(row: 2, to: "a\u{85}b\u{2028}c\u{B}d")
      } == "1 2 3 4\r\ntwo\na b c d")
  }

  @Test func rowsAreInserted() throws {
    #expect(
      try edited("caption,media_path\r\n", "a.csv") {
        $0.insert(media: "b", caption: "2", at: 0)
        $0.insert(media: "a", caption: "1", at: 0)
      } == "caption,media_path\r\n1,a\r\n2,b\r\n")
    #expect(
      try edited("[]", "a.json") { $0.insert(media: "a", caption: "1", at: 0) }
        == "[\n  {\n    \"caption\": \"1\",\n    \"media_path\": \"a\"\n  }\n]")
    let lines = { (text: String, row: Int) in
      try edited(text, "a.txt") { $0.insert(media: "a", caption: "n\new", at: row) }
    }
    #expect(try lines("", 0) == "n ew\n" && lines("x", 1) == "x\nn ew")
    #expect(
      try lines("x\r\ny\r\n", 2) == "x\r\ny\r\nn ew\r\n" && lines("x\r\n", 0) == "n ew\r\nx\r\n")
  }

  @Test(arguments: [("a.json", "{}"), ("a.jsonl", "x"), ("a.csv", ""), ("a.xml", "")])
  func contentThatIsNotWellFormedIsReported(path: String, text: String) {
    let found = message { _ = try CaptionEdits(Array(text.utf8), path: path) }
    #expect(found.hasPrefix("\(path):"), "\(found)")
  }

  @Test func otherEncodingsAreReported() {
    let found = message { _ = try CaptionEdits([0x61, 0xE9, 0x0A], path: "a.txt") }
    #expect(found == "a.txt: is not UTF-8. Save it in that encoding.")
  }
}
