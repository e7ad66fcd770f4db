import Foundation
import LTX
import Support
import TestSupport
import Testing

@testable import Datasets

@Suite struct DatasetTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private func dataset(_ text: String, _ name: String, columns: [Role: String] = [:]) throws
    -> Dataset
  {
    try Dataset(path: scratch.write(text, to: name), columns: columns)
  }

  private func error(_ text: String, _ name: String, columns: [Role: String] = [:]) -> String {
    message { _ = try dataset(text, name, columns: columns) }
  }

  @Test func repeatsAreIntegersFrom1OnOtherValuesAreRefusedWithTheirLine() throws {
    let found = try dataset(
      """
      {"video": "a.mp4", "caption": "x", "repeats": 3}
      {"video": "b.mp4", "caption": "x"}
      {"video": "c.mp4", "caption": "x", "repeats": "2"}
      {"video": "d.mp4", "caption": "x", "repeats": 0}
      {"video": "e.mp4", "caption": "x", "repeats": 1.5}
      {"video": "f.mp4", "caption": "x", "repeats": "many"}
      {"video": "g.mp4", "caption": "x", "repeats": [2]}
      """, "d.jsonl")
    #expect(found.samples.map(\.repeats) == [3, 1, 2])
    #expect(found.columns.unused.isEmpty)
    #expect(found.problems.map(\.line) == [4, 5, 6, 7])
    #expect("\(found.problems[0])".hasPrefix("line 4: d.mp4: repeats: must be an integer"))
    #expect(found.problems[1].problem.contains("(got 1.5)"))
    #expect(found.problems[2].problem.contains("(got \"many\")"))
    let table = try dataset("video,caption,num_repeats\na.mp4,x,4\nb.mp4,y,\n", "d.csv")
    #expect(table.samples.map(\.repeats) == [4, 1])
  }

  // MARK: Formats

  @Test func jsonAListOfObjectsWithTheLinesTheyStandOn() throws {
    let found = try dataset(
      """
      [
        {"video": " a.mp4 ", "caption": "a [man], \\"quoted\\""},
        {
          "caption": "second", "extra": {"deep": [1, 2]},
          "video": "sub/b.c.mov"}, {"video": "x.mp4", "caption": "same line"}
      ]
      """, "d.json")
    #expect(found.problems.isEmpty)
    #expect(found.columns.unused == ["extra"])
    #expect(found.samples.map(\.media) == ["a.mp4", "sub/b.c.mov", "x.mp4"])
    #expect(found.samples.map(\.caption) == ["a [man], \"quoted\"", "second", "same line"])
    #expect(found.samples.map(\.line) == [2, 3, 5])
    #expect(found.samples.map(\.name) == ["a", "sub/b.c", "x"])
    #expect(
      found.samples.map { $0.paths[.video] } == ["a.mp4", "sub/b.c.mov", "x.mp4"].map(scratch.file))
  }

  @Test func jsonlAnObjectALineEmptyLinesPassedOver() throws {
    let found = try dataset(
      "{\"media_path\": \"a.mp4\", \"text\": \"one\"}\r\n\n{\"media_path\": \"b.mp4\", \"text\": \"two\"}\n",
      "d.jsonl")
    #expect(found.samples.map(\.caption) == ["one", "two"])
    #expect(found.samples.map(\.line) == [1, 3])
  }

  @Test func csvQuotesCommasLineEndsAndAByteOrderMark() throws {
    let found = try dataset(
      "\u{FEFF}video,caption,note\r\na.mp4,\"one, \"\"two\"\"\nthree\",x\r\n\r\nb.mp4,plain \"text\",\nc.mp4,last",
      "d.csv")
    #expect(found.samples.map(\.caption) == ["one, \"two\"\nthree", "plain \"text\"", "last"])
    #expect(found.samples.map(\.line) == [2, 5, 6])
  }

  @Test func aFolderFilesOfOneNameBelongTogether() throws {
    for name in [
      "a.mp4", "sub/b.MOV", "sub/b.wav", "c.png", "c_mask.png", "a_reference.mp4", "d.flac",
      "notes.md",
      ".hidden.mp4",
      ".precomputed/latents/a.mp4", "e_reference.mp4", "f.mp4",
    ] { try scratch.write("x", to: "clips/" + name) }
    for (name, caption) in [
      ("a", " one\n"), ("sub/b", "\u{FEFF}two"), ("c", "three"), ("d", "four"),
      ("e_reference", "five"),
    ] { try scratch.write(caption, to: "clips/\(name).txt") }
    let found = try Dataset(path: scratch.file("clips"))
    #expect(found.samples.map(\.name) == ["a", "c", "d", "e_reference", "sub/b"])
    #expect(found.samples.map(\.caption) == ["one", "three", "four", "five", "two"])
    func paths(_ index: Int) -> [Role: String] {
      found.samples[index].paths.mapValues { String($0.dropFirst(scratch.file("clips").count + 1)) }
    }
    #expect(paths(0) == [.video: "a.mp4", .referenceVideo: "a_reference.mp4"])
    #expect(paths(1) == [.video: "c.png", .videoMask: "c_mask.png"])
    #expect(paths(2) == [.audio: "d.flac"])
    #expect(paths(3) == [.video: "e_reference.mp4"])
    #expect(paths(4) == [.video: "sub/b.MOV", .audio: "sub/b.wav"])
    #expect(
      found.problems.map(\.description) == [
        "f.mp4: the caption is missing. Write it to a .txt file of the same name."
      ])
  }

  @Test func unmatchedFilesOfAFolderAreReported() throws {
    try scratch.write("x", to: "a.mov")
    try scratch.write("x", to: "a.mp4")
    try scratch.write("one", to: "a.txt")
    try scratch.write("x", to: "b.mp4")
    try Data([0xE9, 0x20]).write(to: URL(fileURLWithPath: scratch.file("b.txt")))
    let found = try Dataset(path: scratch.path)
    #expect(found.samples.map(\.media) == ["a.mov"])
    #expect(found.problems.count == 2)
    #expect(found.problems[0].problem.contains("a.mp4 differs from a.mov only"))
    #expect(found.problems[1].problem.contains("b.txt is not UTF-8 text"))
    let empty = try ScratchFolder()
    #expect(
      message { _ = try Dataset(path: empty.path) }.contains("has no videos, images or audio"))
  }

  @Test func columnsAreChosenByFlagThenUpstreamsName() throws {
    let row =
      #"[{"text": "t", "caption": "c", "media_path": "m.mp4", "video": "v.mp4", "mine": "own.mp4"}]"#
    let plain = try dataset(row, "d.json")
    #expect(plain.samples[0].media == "v.mp4")
    #expect(plain.samples[0].caption == "c")
    let named = try dataset(row, "d.json", columns: [.video: "mine", .caption: "text"])
    #expect(named.samples[0].media == "own.mp4")
    #expect(named.samples[0].caption == "t")
  }

  @Test func columnsEveryRoleByItsNameAndTheOlderNames() throws {
    let all = try dataset(
      #"""
      {"media_path": "v", "audio": "a", "ref_media_path": "rv", "reference_audio": "ra", "video_mask": "vm", "audio_mask": "am", "caption": "c"}
      """#, "d.jsonl")
    #expect(
      all.samples[0].paths.mapValues { String($0.split(separator: "/").last ?? "") } == [
        .video: "v", .audio: "a", .referenceVideo: "rv", .referenceAudio: "ra", .videoMask: "vm",
        .audioMask: "am",
      ])
    #expect(all.columns.unused.isEmpty)
    // A column that is named for one role is not used for another.
    let renamed = try dataset(
      #"[{"clip": "c.mp4", "video": "r.mp4", "caption": "c"}]"#, "d.json",
      columns: [.referenceVideo: "video"]
    )
    #expect(renamed.samples[0].media == "c.mp4")
    #expect(renamed.samples[0].paths[.referenceVideo] == scratch.file("r.mp4"))
  }

  @Test func namesBelowTheOutputFolderWhateverThePath() throws {
    let found = try dataset(
      """
      {"video": "./a//b.mp4", "caption": "c"}
      {"video": "x/../c.mp4", "caption": "c"}
      {"video": "/elsewhere/d.mp4", "caption": "c"}
      {"video": ".hidden", "caption": "c"}
      {"video": "../../../../../../../../../etc/e.mp4", "caption": "c"}
      """, "d.jsonl")
    #expect(found.samples.map(\.name) == ["a/b", "c", "elsewhere/d", ".hidden", "etc/e"])
    #expect(found.samples[4].paths[.video] == "/etc/e.mp4")
  }

  // MARK: Bad input

  @Test func filesThatAreNoDatasets() throws {
    #expect(message { _ = try Dataset(path: scratch.file("none.json")) }.contains("does not exist"))
    #expect(error("", "d.txt").contains(".json, .jsonl or .csv"))
    #expect(error("[]", "d.json").contains("has no rows"))
    #expect(error("", "d.jsonl").contains("has no rows"))
    #expect(error("", "d.csv").contains("has no rows"))
    #expect(error("video,caption\n", "d.csv").contains("has no rows"))
    #expect(error("{}", "d.json").contains("must be a list of objects"))
    #expect(error("[{]", "d.json").contains("no row can be read: line 1: is not valid JSON"))
    let latin = scratch.file("latin.csv")
    try Data([0x76, 0x2C, 0xE9, 0x0A]).write(to: URL(fileURLWithPath: latin))
    #expect(message { _ = try Dataset(path: latin) }.contains("is not UTF-8"))
  }

  /// A problem in one row doesn't affect the other rows.
  @Test(
    arguments: [
      (#"[{"video": "a", "caption": "b"}, "c"]"#, ["a"], [1], "must be an object"),
      ("[{\"video\": \"a\", \"caption\": \"b,\"},\n]", ["a"], [1], "nothing follows the comma"),
      (
        "[{\"video\": \"a\", \"caption\": \"b\"},\n{\"video\": \"c\", \"caption\": \"d\",}]", ["a"],
        [2],
        "nothing follows a comma"
      ),
      (
        "[{\"video\": \"a\", \"caption\": \"b\"},\n{\"video\": \"c\", \"video\": \"d\"}]", ["a"],
        [2],
        "an object has two members named \"video\""
      ),
      ("[,{\"video\": \"a\", \"caption\": \"b\"}]", ["a"], [1], "nothing precedes the comma"),
      ("[{\"video\": \"a\", \"caption\": \"b\"}\n", ["a"], [2], "the list has no end"),
      ("[{\"video\": \"a\", \"caption\": \"b\"}]\n x", ["a"], [2], "text follows the list"),
      (
        "[{\"video\": \"a\", \"caption\": \"open},\n{\"video\": \"c\", \"caption\": \"d\"}]", ["c"],
        [1],
        "is not valid JSON"
      ),
      (
        "[{\"video\": \"a\", \"caption\": \"b\"\n{\"video\": \"c\", \"caption\": \"d\"}]", ["c"],
        [1],
        "is not valid JSON"
      ),
    ] as [(String, [String], [Int?], String)])
  func jsonThatIsBrokenInOnePlace(
    _ text: String, _ media: [String], _ lines: [Int?], _ problem: String
  ) throws {
    let found = try dataset(text, "d.json")
    #expect(found.samples.map(\.media) == media)
    #expect(found.problems.map(\.line) == lines)
    #expect(found.problems[0].problem.contains(problem), "\(found.problems)")
  }

  @Test func jsonlWithALineThatIsBroken() throws {
    let found = try dataset(
      "{\"video\": \"a\", \"caption\": \"b\"}\n{\n{\"video\": \"c\", \"caption\": \"d\"}", "d.jsonl"
    )
    #expect(found.samples.map(\.media) == ["a", "c"])
    #expect(found.problems.map(\.line) == [2])
  }

  @Test(
    arguments: [
      ("a.mp4,\"x\nb.mp4,y\n", ["b.mp4"], 2, "a quote is not closed"),
      ("a.mp4,\"x\" y\nb.mp4,y\n", ["b.mp4"], 2, "text follows a closing quote"),
      ("b.mp4,y\na.mp4,x,y\n", ["b.mp4"], 3, "the row has 3 fields"),
      ("b.mp4,\"y\nz\"\nc.mp4,x\nd.mp4,\"x\n", ["b.mp4", "c.mp4"], 5, "not closed"),
    ] as [(String, [String], Int, String)])
  func csvThatIsBrokenInOnePlace(
    _ rows: String, _ media: [String], _ line: Int, _ problem: String
  )
    throws
  {
    let found = try dataset("video,caption\n" + rows, "d.csv")
    #expect(found.samples.map(\.media) == media)
    #expect(found.problems.map(\.line) == [line])
    #expect(found.problems[0].problem.contains(problem))
  }

  /// A quote that is closed by the next row's quote doesn't affect other rows.
  @Test func csvWithAQuoteThatAnotherRowCloses() throws {
    try scratch.write("video,caption\na.mp4,\"open\nb.mp4,y\nc.mp4,\"good\"\n", to: "d.csv")
    let dataset = try Dataset(path: scratch.file("d.csv"))
    #expect(dataset.samples.map(\.media) == ["b.mp4", "c.mp4"])
    #expect(dataset.problems.map(\.line) == [2])
  }

  @Test func jsonWithABracketTooMany() throws {
    try scratch.write(
      """
      [
      {"video": "a.mp4", "caption": "x"}},
      {"video": "b.mp4", "caption": "y"}
      ]
      """, to: "d.json")
    let dataset = try Dataset(path: scratch.file("d.json"))
    #expect(dataset.samples.map(\.media).contains("b.mp4"))
    #expect(dataset.problems.map(\.line) == [2])
  }

  /// A file system distinguishes them, though Unicode treats them as equivalent.
  @Test func namesThatOnlyLookAlikeAreTwoSamples() throws {
    try scratch.write("video,caption\ncaf\u{e9}.mp4,x\ncafe\u{301}.mp4,y\n", to: "d.csv")
    let dataset = try Dataset(path: scratch.file("d.csv"))
    #expect(dataset.samples.count == 2 && dataset.problems.isEmpty)
  }

  @Test func csvWhoseHeaderIsBroken() throws {
    #expect(
      error("video,caption,video\na.mp4,x,y\n", "d.csv").contains("has the column \"video\" twice"))
    #expect(error("video,\"caption\na.mp4,x\n", "d.csv").contains("d.csv:1: a quote is not closed"))
  }

  @Test func columnsThatAreMissing() throws {
    let noCaption = error(#"[{"video": "a.mp4", "title": "b"}]"#, "d.json")
    #expect(noCaption.contains("no column of captions") && noCaption.contains("title, video"))
    #expect(error(#"[{"caption": "b"}]"#, "d.json").contains("no column of media files"))
    #expect(
      error(#"[{"video": "a", "caption": "b"}]"#, "d.json", columns: [.caption: "words"]).contains(
        "has no column \"words\""))
  }

  @Test(arguments: [
    ("{\"video\": \"c\"}", "c: the caption is missing"),
    ("{\"caption\": \"c\"}", "the media file is missing: the row has no \"video\""),
    ("{\"video\": \"c\", \"caption\": \" \"}", "c: caption: is empty"),
    ("{\"video\": \"\", \"caption\": \"d\"}", "line 2: video: is empty"),
    ("{\"video\": \"c\", \"caption\": 3}", "c: caption: must be a string"),
    ("{\"video\": \"c\\u0000d\", \"caption\": \"d\"}", "video: contains a zero byte"),
    ("{\"video\": null, \"caption\": \"d\"}", "the media file is missing"),
    (
      "{\"video\": \"./a.mov\", \"caption\": \"d\"}",
      "./a.mov would be cached under the same name as the row of line 1, a"
    ),
  ]) func aRowThatCantBeUsed(_ row: String, _ problem: String) throws {
    let good = "{\"video\": \"a.mp4\", \"caption\": \"b\"}"
    let found = try dataset("\(good)\n\(row)\n", "d.jsonl")
    #expect(found.samples.map(\.media) == ["a.mp4"])
    #expect(found.problems.map(\.line) == [2])
    #expect("\(found.problems[0])".contains(problem), "\(found.problems)")
  }

  /// Whatever the bytes, a dataset is either read or rejected, and every row is either a sample or
  /// a problem.
  @Test(arguments: [
    "[\n{\"video\": \"a\", \"caption\": \"b \\\" c\"},\n{\"video\": \"d\", \"caption\": [1, {\"e\": null}]}\n]",
    "video,caption\na.mp4,\"x, \"\"y\"\"\nz\"\r\nb.mp4,w\n",
  ]) func damagedDatasetsEndInWords(_ text: String) throws {
    var random = SplitMix(seed: 7)
    let path = scratch.file(text.hasPrefix("[") ? "d.json" : "d.csv")
    let characters = Array("\"\\,{}[]:\n\r a1".utf8)
    var read = 0
    for _ in 0..<2000 {
      var bytes = Array(text.utf8)
      for _ in 0...Int(random.next() % 4) {
        let place = Int(random.next() % UInt64(bytes.count))
        switch random.next() % 3 {
        case 0: bytes.remove(at: place)
        case 1: bytes.insert(characters[Int(random.next() % UInt64(characters.count))], at: place)
        default: bytes[place] = characters[Int(random.next() % UInt64(characters.count))]
        }
      }
      try Data(bytes).write(to: URL(fileURLWithPath: path))
      do {
        let dataset = try Dataset(path: path)
        read += 1
        #expect(dataset.samples.allSatisfy { !$0.name.isEmpty && !$0.name.contains("..") })
      } catch is Support.Issue {}
    }
    #expect(read > 200)
  }
}
