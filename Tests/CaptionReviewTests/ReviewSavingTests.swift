import Datasets
import Foundation
import Support
import TestSupport
import Testing

@testable import CaptionReview

/// Saving: only edited values change in the text of the files, and nothing that others wrote is
/// lost.
@Suite struct ReviewSavingTests {
  private let folder: ScratchFolder

  init() throws {
    folder = try ScratchFolder()
    for name in ["a.mp4", "b.mp4", "c.png"] { try folder.write("x", to: name) }
  }

  private func text(_ name: String) throws -> String {
    try String(decoding: Data(contentsOf: URL(fileURLWithPath: folder.file(name))), as: UTF8.self)
  }

  /// Serves a dataset, and closes the server afterward.
  private func review<R>(_ dataset: String, _ body: (PageClient) throws -> R) throws -> R {
    let server = try ReviewServer(dataset: folder.file(dataset))
    defer { server.close() }
    return try body(try PageClient(server))
  }

  private func edit(
    _ row: Int, _ media: String, caption: String? = nil, mark: String? = nil
  ) -> JSON {
    var edit: JSONObject = ["row": JSON(row), "media": .string(media)]
    edit["caption"] = caption.map(JSON.string)
    edit["mark"] = mark.map(JSON.string)
    return .object(edit)
  }

  // MARK: Formats

  @Test func aListKeepsItsText() throws {
    let before = """
      [
          {"caption":"one \\u00e9", "media_path": "a.mp4", "n": 1.50},
        { "media_path" : "b.mp4" },   {"media_path":"c.png","caption":"three"}
      ]
      """
    try folder.write(before, to: "data.json")
    let saved = try review("data.json") { client in
      let rows = try #require(try client.rows()["rows"]?.array)
      #expect(rows.map { $0["caption"]?.string } == ["one é", "", "three"])
      #expect(rows.map { $0["kind"]?.string } == ["video", "video", "image"])
      #expect(rows.map { $0["line"]?.int } == [2, 3, 3])
      return try client.save([
        edit(1, "b.mp4", caption: "two \"quoted\"\n<b>"), edit(2, "c.png", mark: "left_out"),
      ])
    }
    #expect(saved.status == 200)
    let rows = try #require(try saved.json()["rows"]?.array)
    #expect(rows.map { $0["caption"]?.string } == ["two \"quoted\"\n<b>", "three"])
    #expect(rows.map { $0["mark"]?.string } == ["", "left_out"])
    #expect(
      try text("data.json") == """
        [
            {"caption":"one \\u00e9", "media_path": "a.mp4", "n": 1.50},
          { "media_path" : "b.mp4", "caption" : "two \\"quoted\\"\\n<b>" },   {"media_path":"c.png","caption":"three","caption_review":"left_out"}
        ]
        """)
    let dataset = try review("data.json") { client in
      #expect(
        try client.save([edit(1, "b.mp4", mark: ""), edit(2, "c.png", mark: "")]).status == 200)
      return try Dataset(path: folder.file("data.json"))
    }
    #expect(dataset.samples.count == 3)
    #expect(try text("data.json").contains(#"{"media_path":"c.png","caption":"three"}"#))
  }

  @Test func linesKeepTheirText() throws {
    try folder.write(
      "{\"video\": \"a.mp4\", \"prompt\": \"one\"}\r\n\r\n{\"video\":\"b.mp4\",\"prompt\":\"two\"}",
      to: "data.jsonl")
    let saved = try review("data.jsonl") { client in
      try client.save([edit(1, "b.mp4", caption: "2", mark: "done")])
    }
    #expect(saved.status == 200)
    #expect(
      try text("data.jsonl")
        == "{\"video\": \"a.mp4\", \"prompt\": \"one\"}\r\n\r\n"
        + "{\"video\":\"b.mp4\",\"prompt\":\"2\",\"caption_review\":\"done\"}")
  }

  @Test func tablesKeepTheirText() throws {
    try folder.write(
      "\u{FEFF}caption,media_path\r\n\"one, \"\"x\"\"\",a.mp4\r\ntwo,\"b.mp4\"\r\n", to: "data.csv")
    let saved = try review("data.csv") { client in
      try client.save([edit(1, "b.mp4", caption: "2, \"y\"")])
    }
    #expect(saved.status == 200)
    #expect(
      try text("data.csv")
        == "\u{FEFF}caption,media_path\r\n\"one, \"\"x\"\"\",a.mp4\r\n\"2, \"\"y\"\"\",\"b.mp4\"\r\n"
    )
  }

  @Test func upstreamsTextFilesKeepTheirText() throws {
    try folder.write("one\r\ntwo\nthree", to: "out_captions.txt")
    try folder.write("a.mp4\nb.mp4\nc.png\n", to: "out_paths.txt")
    for name in ["out.txt", "out_captions.txt", "out_paths.txt"] {
      try review(name) { client in
        let listing = try client.rows()
        #expect(listing["keepsMarks"]?.bool == false)
        #expect(listing["rows"]?.array?.map { $0["media"]?.string } == ["a.mp4", "b.mp4", "c.png"])
        let saved = try client.save([edit(0, "a.mp4", caption: "1\r\n\u{2028}x")])
        #expect(try saved.json()["rows"]?.array?.first?["caption"]?.string == "1  x")
        #expect(try client.save([edit(0, "a.mp4", mark: "done")]).status == 400)
      }
    }
    #expect(try text("out_captions.txt") == "1  x\r\ntwo\nthree")
    #expect(try text("out_paths.txt") == "a.mp4\nb.mp4\nc.png\n")
  }

  @Test func aFolderKeepsItsText() throws {
    try folder.write("\u{FEFF}  one\r\n\r\n", to: "a.txt")
    try folder.write("two", to: "b.TXT")
    try review("") { client in
      let rows = try #require(try client.rows()["rows"]?.array)
      #expect(rows.map { $0["caption"]?.string } == ["one", "two", ""])
      let saved = try client.save([
        edit(0, "a.mp4", caption: "1", mark: "done"), edit(1, "b.mp4", caption: "2"),
        edit(2, "c.png", caption: "3", mark: "left_out"),
      ])
      #expect(saved.status == 200, "\(saved.text)")
    }
    #expect(try text("a.txt") == "\u{FEFF}  1\r\n\r\n")
    #expect(try text("b.TXT") == "2" && text("c.txt") == "3\n")
    let dataset = try Dataset(path: folder.path)
    #expect(dataset.samples.map(\.media) == ["a.mp4", "b.mp4"])
    #expect(dataset.leftOut == 1)
    try review("") { client in
      let rows = try #require(try client.rows()["rows"]?.array)
      #expect(rows.map { $0["mark"]?.string } == ["done", "", "left_out"])
      #expect(try client.save([edit(2, "c.png", mark: "")]).status == 200)
    }
    #expect(try text(ReviewMark.fileName) == "{\n  \"a.mp4\" : \"done\"\n}\n")
  }

  @Test func aSymbolicLinkStays() throws {
    try folder.write(#"[{"video": "../a.mp4", "caption": "one"}]"#, to: "real/data.json")
    try FileManager.default.createSymbolicLink(
      atPath: folder.file("data.json"), withDestinationPath: "real/data.json")
    let saved = try review("data.json") { client in
      try client.save([edit(0, "../a.mp4", caption: "1")])
    }
    #expect(saved.status == 200)
    #expect(try text("real/data.json") == #"[{"video": "../a.mp4", "caption": "1"}]"#)
    let link = try FileManager.default.attributesOfItem(atPath: folder.file("data.json"))
    #expect(link[.type] as? FileAttributeType == .typeSymbolicLink)
  }

  // MARK: Requests that can't be saved

  @Test func nothingIsWrittenUnlessAllEditsFit() throws {
    let before = #"[{"video": "a.mp4", "caption": "one"}, {"video": "b.mp4", "caption": "two"}]"#
    try folder.write(before, to: "data.json")
    try review("data.json") { client in
      for bad in [
        edit(2, "b.mp4", caption: "x"), edit(-1, "b.mp4", caption: "x"),
        edit(1, "a.mp4", caption: "x"), edit(1, "b.mp4", mark: "maybe"),
      ] {
        let answer = try client.save([edit(0, "a.mp4", caption: "1"), bad])
        #expect(answer.status == 400, "\(bad.text())")
        #expect(answer.text.hasPrefix("edits."), "\(answer.text)")
      }
      #expect(try client.save([]).status == 200)
    }
    #expect(try text("data.json") == before)
  }

  @Test func anotherWriterIsReported() throws {
    try review("") { client in
      let version = try client.rows()["version"]?.string ?? ""
      let lock = try OutputLock(folder: folder.path, purpose: "a test") { _ in }
      let answer = try client.save(version: version, edits: [edit(0, "a.mp4", caption: "1")])
      #expect(answer.status == 500)
      #expect(answer.text.contains("another process is writing here (a test"), "\(answer.text)")
      lock.release()
      #expect(
        try client.save(version: version, edits: [edit(0, "a.mp4", caption: "1")]).status == 200)
    }
  }

  // MARK: Changes by others

  @Test func aFileThatWasChangedIsNotOverwritten() throws {
    try folder.write(#"[{"video": "a.mp4", "caption": "one"}]"#, to: "data.json")
    try review("data.json") { client in
      let version = try client.rows()["version"]?.string ?? ""
      let theirs = #"[{"video": "b.mp4", "caption": "new"}, {"video": "a.mp4", "caption": "1"}]"#
      try folder.write(theirs, to: "data.json")
      #expect(try client.request("version").json()["version"]?.string != version)
      let answer = try client.save(version: version, edits: [edit(0, "a.mp4", caption: "mine")])
      #expect(answer.status == 409)
      let listing = try answer.json()
      #expect(listing["rows"]?.array?.map { $0["caption"]?.string } == ["new", "1"])
      #expect(try text("data.json") == theirs)
      // The page repeats the edit on the rows of the answer.
      let now = listing["version"]?.string ?? ""
      #expect(
        try client.save(version: now, edits: [edit(1, "a.mp4", caption: "mine")]).status == 200)
      #expect(try text("data.json") == theirs.replacing("\"1\"", with: "\"mine\""))
    }
  }

  @Test func damageByOthersIsReportedAndKept() throws {
    let before = #"[{"video": "a.mp4", "caption": "one"}]"#
    try folder.write(before, to: "data.json")
    try review("data.json") { client in
      let version = try client.rows()["version"]?.string ?? ""
      for damage in ["", "[", "not JSON", #"[{"video": "a.mp4", "caption": 5}]"#, "[]"] {
        try folder.write(damage, to: "data.json")
        let answer = try client.save(version: version, edits: [edit(0, "a.mp4", caption: "1")])
        #expect(answer.status == 500 && answer.text.contains("data.json"), "\(answer.text)")
        #expect(try text("data.json") == damage)
        #expect(try client.request("rows").status == 500)
      }
      try FileManager.default.removeItem(atPath: folder.file("data.json"))
      #expect(
        try client.save(version: version, edits: [edit(0, "a.mp4", caption: "1")]).status == 500)
      try folder.write(before, to: "data.json")
      #expect(
        try client.save(version: version, edits: [edit(0, "a.mp4", caption: "1")]).status == 200)
    }
  }

  @Test func captionsOfAFolderThatWereChangedAreNotOverwritten() throws {
    try folder.write("one", to: "a.txt")
    try review("") { client in
      let version = try client.rows()["version"]?.string ?? ""
      try folder.write("theirs", to: "a.txt")
      #expect(
        try client.save(version: version, edits: [edit(0, "a.mp4", caption: "mine")]).status == 409)
      #expect(try text("a.txt") == "theirs")
      let now = try client.rows()["version"]?.string
      try folder.write("x", to: "d.mp4")
      #expect(try client.rows()["version"]?.string != now)
    }
  }

  @Test func ofConcurrentSavesOfOneVersionOnlyOneIsDone() async throws {
    let rows = (0..<8).map { "{\"video\": \"\($0).mp4\", \"caption\": \"c\"}" }
    try folder.write("[\(rows.joined(separator: ",\n"))]", to: "data.json")
    let server = try ReviewServer(dataset: folder.file("data.json"))
    defer { server.close() }
    let client = try PageClient(server)
    // Every client tries until its edit is in the file, as pages do when users keep their changes.
    let conflicts = try await withThrowingTaskGroup(of: Int.self) { group in
      let first = try client.rows()["version"]?.string ?? ""
      for row in 0..<8 {
        group.addTask {
          var (version, count) = (first, 0)
          while true {
            let answer = try client.save(
              version: version, edits: [edit(row, "\(row).mp4", caption: "new \(row)")])
            if answer.status == 200 { return count }
            guard answer.status == 409 else { throw PageClient.Failure(description: answer.text) }
            version = try answer.json()["version"]?.string ?? ""
            count += 1
          }
        }
      }
      return try await group.reduce(0, +)
    }
    #expect(conflicts >= 7)
    let captions = try Dataset(path: folder.file("data.json")).samples.map(\.caption)
    #expect(captions == (0..<8).map { "new \($0)" })
  }

  // MARK: Datasets that can't be reviewed

  @Test(arguments: [
    ("none.json", nil, "does not exist"), ("data.json", "{}", "must be a list of objects"),
    ("data.json", "[{\"video\": \"a.mp4\"}, 5]", "must be an object"),
    ("data.json", "[{\"x\": \"a.mp4\", \"caption\": \"b\"}]", "has no column of media files"),
    ("data.json", "[{\"video\": 1}]", "data.json:1: video: must be a string (got a number)"),
    (
      "data.json", "[{\"video\": \"a\", \"caption_review\": \"x\"}]",
      "must be \"done\" or \"left_out\""
    ),
    ("data.csv", "video,caption\na,b,c\n", "has 3 fields"),
    ("data.jsonl", "{\"video\": \"a\"} {\"video\": \"b\"}", "not valid JSON"),
    ("data.txt", "x", "data_captions.txt: does not exist"), ("data.yaml", "x", "is not a dataset"),
  ])
  func datasetsThatCannotBeUsedAreReported(name: String, text: String?, problem: String) throws {
    if let text { try folder.write(text, to: name) }
    let found = message { _ = try ReviewServer(dataset: folder.file(name)) }
    #expect(found.contains(problem), "\(found)")
  }

  @Test func columnsCanBeNamed() throws {
    try folder.write("file_path,words\na.mp4,one\n", to: "data.csv")
    let server = try ReviewServer(
      dataset: folder.file("data.csv"), columns: [.video: "file_path", .caption: "words"])
    defer { server.close() }
    #expect(try PageClient(server).save([edit(0, "a.mp4", caption: "1")]).status == 200)
    #expect(try text("data.csv") == "file_path,words\na.mp4,1\n")
    let found = message {
      _ = try ReviewServer(dataset: folder.file("data.csv"), columns: [.video: "clip"])
    }
    #expect(found.contains("columns.video") && found.contains("has no column \"clip\""), "\(found)")
  }
}
