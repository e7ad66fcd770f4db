import Foundation
import Support
import TestSupport
import Testing

@testable import Datasets

/// Columns set in the text of dataset files: everything else stays unchanged, byte for byte.
@Suite struct DatasetTextTests {
  private func edited(
    _ text: String, _ type: String, _ edit: (inout DatasetText) -> Void
  ) throws -> String {
    let folder = try ScratchFolder()
    let path = folder.file("data." + type)
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    var dataset = try DatasetText(path: path)
    // Reading it must give the same rows.
    #expect(try DatasetFile(path: path).rows.count == dataset.rowCount)
    edit(&dataset)
    try dataset.write()
    _ = try DatasetFile(path: path)
    return String(decoding: try Data(contentsOf: URL(fileURLWithPath: path)), as: UTF8.self)
  }

  @Test func aJSONListKeepsItsLayout() throws {
    let text = """
      [
        {
          "video": "a b.mp4",  "caption" : "{ \\"x\\": [1, 2] }",
          "n": [1, {"reference": null}]
        },
        {"caption": "é", "video": "b.mp4", "reference": "old.mp4"},
        {}, {"video":"c:d"}
      ]

      """
    let result = try edited(text, "json") {
      for row in 0..<4 { $0.set("reference", row: row, to: "new \"\(row)\"\\.mp4") }
    }
    #expect(
      result == """
        [
          {
            "video": "a b.mp4",  "caption" : "{ \\"x\\": [1, 2] }",
            "n": [1, {"reference": null}],
            "reference": "new \\"0\\"\\\\.mp4"
          },
          {"caption": "é", "video": "b.mp4", "reference": "new \\"1\\"\\\\.mp4"},
          {"reference": "new \\"2\\"\\\\.mp4"}, {"video":"c:d","reference":"new \\"3\\"\\\\.mp4"}
        ]

        """)
  }

  @Test func membersAreRemovedWithTheirCommas() throws {
    let text =
      #"[{"old": 1, "a": 2}, {"a": 2, "old": [1]}, {"old": "x"}, {"a": 1,"old":{"old":1},"b": 2}]"#
    let result = try edited(text, "json") { for row in 0..<4 { $0.remove("old", row: row) } }
    #expect(result == #"[{"a": 2}, {"a": 2}, {}, {"a": 1,"b": 2}]"#)
    #expect(try edited(text, "json") { $0.remove("none", row: 1) } == text)
  }

  @Test func keysAreComparedDecoded() throws {
    let text = "{\"k\\u0065y\": 1, \"b\": 2}\n{\"key\": 1}\r\n\n {\"b\": 0}"
    let result = try edited(text, "jsonl") {
      for row in 0..<3 { $0.set("key", row: row, to: "\u{1}\n") }
    }
    #expect(
      result
        == "{\"k\\u0065y\": \"\\u0001\\n\", \"b\": 2}\n{\"key\": \"\\u0001\\n\"}\r\n\n"
        + " {\"b\": 0, \"key\": \"\\u0001\\n\"}")
  }

  @Test func tablesKeepQuotesLineEndsAndItsMark() throws {
    let text =
      "\u{FEFF}video,caption\r\n\"a.mp4\",\"two, with \"\"quotes\"\"\r\nand lines\"\r\n\r\nb.mp4\r\nc.mp4,x"
    let result = try edited(text, "csv") {
      $0.set("reference_video", row: 0, to: "a,1.mp4")
      $0.set("reference_video", row: 2, to: "c \"1\".mp4")
    }
    #expect(
      result
        == "\u{FEFF}video,caption,reference_video\r\n\"a.mp4\",\"two, with \"\"quotes\"\"\r\nand lines\",\"a,1.mp4\"\r\n\r\n"
        + "b.mp4,,\r\nc.mp4,x,\"c \"\"1\"\".mp4\"")
    let again = try edited(result, "csv") {
      $0.set("caption", row: 1, to: "new")
      $0.remove("reference_video", row: 0)
    }
    #expect(
      again
        == "\u{FEFF}video,caption,reference_video\r\n\"a.mp4\",\"two, with \"\"quotes\"\"\r\nand lines\",\r\n\r\n"
        + "b.mp4,new,\r\nc.mp4,x,\"c \"\"1\"\".mp4\"")
  }

  @Test func emptyRecordsOfCSVAreNoRows() throws {
    let text = "\nvideo\n\"\"\na.mp4\n\n\"\"\nb.mp4\n"
    let result = try edited(text, "csv") { $0.set("c", row: 1, to: "1") }
    #expect(result == "\nvideo,c\n\"\"\na.mp4,\n\n\"\"\nb.mp4,1\n")
  }

  @Test(arguments: [
    ("json", #"[{"a": "b}]"#), ("json", #"[{"a" 1}]"#), ("json", "[1]"), ("json", #"{"a": 1}"#),
    ("json", ""),
    ("json", #"[{"a": 1}"#), ("json", #"[{"a": }]"#), ("json", #"[{"a": 1}] x"#),
    ("json", #"[{"a": 1},]"#), ("json", #"[{"a": 1, "a": 1}]"#),
    ("jsonl", "{\"a\": 1}\n[]"), ("jsonl", "{"), ("csv", ""), ("csv", "a,b\n\"x,y"),
    ("csv", "a\n\"x\"y"),
    ("txt", "a"),
  ])
  func malformedDatasetsAreRefused(type: String, text: String) throws {
    let folder = try ScratchFolder()
    let path = folder.file("data." + type)
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    #expect(throws: Support.Issue.self) { try DatasetText(path: path) }
  }

  @Test func itIsWrittenElsewhereOrNotAtAll() throws {
    let folder = try ScratchFolder()
    let (path, link) = (folder.file("data.jsonl"), folder.file("link.jsonl"))
    try Data("{\"a\": 1}\n".utf8).write(to: URL(fileURLWithPath: path))
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: path)
    var dataset = try DatasetText(path: link)
    try dataset.write(to: folder.file("copy.jsonl"))
    #expect(
      try String(contentsOfFile: folder.file("copy.jsonl"), encoding: .utf8) == "{\"a\": 1}\n")
    dataset.set("b", row: 0, to: "2")
    try dataset.write()
    #expect(try String(contentsOfFile: path, encoding: .utf8) == "{\"a\": 1, \"b\": \"2\"}\n")
    #expect(try FileManager.default.destinationOfSymbolicLink(atPath: link) == path)
    #expect(throws: WritingError.self) { try dataset.write(to: folder.file("no/data.jsonl")) }
  }
}
