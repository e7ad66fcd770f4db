import Foundation
import Support
import Testing

@testable import Datasets

/// Rows that are inserted into dataset files look like their neighbors.
@Suite struct DatasetTextInsertionTests {
  private func inserted(_ text: String, _ type: String, at rows: Int...) throws -> String {
    var dataset = try DatasetText(Array(text.utf8), path: "d." + type)
    for (number, row) in rows.enumerated() {
      dataset.insert([("caption", "é \(number)"), ("video", "\(number).mp4")], at: row)
    }
    let bytes = dataset.bytes
    #expect(try DatasetText(bytes, path: "d." + type).rowCount == dataset.rowCount)
    #expect(try DatasetFile(path: "d." + type, bytes: bytes).rows.count == dataset.rowCount)
    return String(decoding: bytes, as: UTF8.self)
  }

  @Test func intoAListAsPythonWritesIt() throws {
    let row = { (number: Int) in
      "  {\n    \"caption\": \"é \(number)\",\n    \"video\": \"\(number).mp4\"\n  }"
    }
    let old = row(9)
    #expect(try inserted("[\n\(old)\n]", "json", at: 1) == "[\n\(old),\n\(row(0))\n]")
    #expect(
      try inserted("[\n\(old)\n]\n", "json", at: 0, 2, 1)
        == "[\n\(row(0)),\n\(row(2)),\n\(old),\n\(row(1))\n]\n")
    #expect(try inserted("[]\n", "json", at: 0, 1) == "[\n\(row(0)),\n\(row(1))\n]\n")
    #expect(try inserted(" [ \n ]", "json", at: 0) == " [\n\(row(0))\n]")
  }

  @Test func intoOtherLists() throws {
    #expect(
      try inserted(#"[{"video":"a","caption":"b"}]"#, "json", at: 1)
        == #"[{"video":"a","caption":"b"},{"caption":"é 0","video":"0.mp4"}]"#)
    #expect(
      try inserted(#"[ {"video" : "a" }, {} ]"#, "json", at: 1, 0)
        == #"[ {"caption" : "é 1", "video" : "1.mp4" }, {"video" : "a" }, {"caption" : "é 0", "video" : "0.mp4" }, {} ]"#
    )
  }

  @Test func intoLines() throws {
    let rows = (0...1).map { "{\"caption\": \"é \($0)\", \"video\": \"\($0).mp4\"}" }
    let tight = #"{"video":"a","caption":"b"}"#
    let own = #"{"caption":"é 0","video":"0.mp4"}"#
    #expect(try inserted("", "jsonl", at: 0, 1) == "\(rows[0])\n\(rows[1])\n")
    #expect(try inserted("\(tight)\n", "jsonl", at: 1) == "\(tight)\n\(own)\n")
    #expect(try inserted("\(tight)", "jsonl", at: 1) == "\(tight)\n\(own)")
    #expect(try inserted("\(tight)\r\n", "jsonl", at: 0) == "\(own)\r\n\(tight)\r\n")
    #expect(
      try inserted("\(tight)\n\n\(tight)\n", "jsonl", at: 1)
        == "\(tight)\n\n\(own)\n\n\(tight)\n")
  }

  @Test func intoATable() throws {
    #expect(
      try inserted("video,x,caption\r\na,1,b\r\n", "csv", at: 1, 0)
        == "video,x,caption\r\n1.mp4,,é 1\r\na,1,b\r\n0.mp4,,é 0\r\n")
    #expect(
      try inserted("\u{FEFF}caption,video\nb,a", "csv", at: 1)
        == "\u{FEFF}caption,video\nb,a\né 0,0.mp4")
    #expect(try inserted("caption,video", "csv", at: 0) == "caption,video\né 0,0.mp4")
    #expect(try inserted("video\na\n", "csv", at: 1) == "video,caption\na,\n0.mp4,é 0\n")
  }
}
