import Foundation
import LTX
import TestSupport
import Testing

@testable import Datasets

@Suite struct PreprocessingDatasetTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private func samples(
    _ text: String, _ name: String, media: String? = nil, caption: String? = nil
  ) throws -> [DatasetSample] {
    let file = try DatasetFile(path: scratch.write(text, to: name))
    return try file.samples(DatasetColumns(of: file, media: media, caption: caption))
  }

  private func error(_ text: String, _ name: String, media: String? = nil, caption: String? = nil) -> String {
    message { _ = try samples(text, name, media: media, caption: caption) }
  }

  // MARK: Formats

  @Test func `JSON: a list of objects, with the lines they stand on`() throws {
    let found = try samples(
      """
      [
        {"video": " a.mp4 ", "caption": "a [man], \\"quoted\\""},
        {
          "caption": "second", "extra": {"deep": [1, 2]},
          "video": "sub/b.c.mov"}, {"video": "x.mp4", "caption": "same line"}
      ]
      """, "d.json")
    #expect(found.map(\.media) == ["a.mp4", "sub/b.c.mov", "x.mp4"])
    #expect(found.map(\.caption) == ["a [man], \"quoted\"", "second", "same line"])
    #expect(found.map(\.line) == [2, 3, 5])
    #expect(found.map(\.name) == ["a", "sub/b.c", "x"])
    #expect(found.map(\.mediaPath) == ["a.mp4", "sub/b.c.mov", "x.mp4"].map(scratch.file))
  }

  @Test func `JSONL: an object a line, empty lines passed over`() throws {
    let found = try samples(
      "{\"media_path\": \"a.mp4\", \"text\": \"one\"}\r\n\n{\"media_path\": \"b.mp4\", \"text\": \"two\"}\n",
      "d.jsonl")
    #expect(found.map(\.caption) == ["one", "two"])
    #expect(found.map(\.line) == [1, 3])
  }

  @Test func `CSV: quotes, commas, line ends and a byte order mark`() throws {
    let found = try samples(
      "\u{FEFF}video,caption,note\r\na.mp4,\"one, \"\"two\"\"\nthree\",x\r\n\r\nb.mp4,plain \"text\",\nc.mp4,last",
      "d.csv")
    #expect(found.map(\.caption) == ["one, \"two\"\nthree", "plain \"text\"", "last"])
    #expect(found.map(\.line) == [2, 5, 6])
  }

  @Test func `Columns: the reference's names come first, flags before all`() throws {
    let row = #"[{"text": "t", "caption": "c", "media_path": "m.mp4", "video": "v.mp4", "mine": "own.mp4"}]"#
    let plain = try samples(row, "d.json")
    #expect(plain[0].media == "v.mp4")
    #expect(plain[0].caption == "c")
    let named = try samples(row, "d.json", media: "mine", caption: "text")
    #expect(named[0].media == "own.mp4")
    #expect(named[0].caption == "t")
  }

  @Test func `Names: below the output folder, whatever the path`() throws {
    let found = try samples(
      """
      {"video": "./a//b.mp4", "caption": "c"}
      {"video": "x/../c.mp4", "caption": "c"}
      {"video": "/elsewhere/d.mp4", "caption": "c"}
      {"video": ".hidden", "caption": "c"}
      {"video": "../../../../../../../../../etc/e.mp4", "caption": "c"}
      """, "d.jsonl")
    #expect(found.map(\.name) == ["a/b", "c", "elsewhere/d", ".hidden", "etc/e"])
    #expect(found[4].mediaPath == "/etc/e.mp4")
  }

  // MARK: Bad input

  @Test func `Files that are no datasets`() throws {
    #expect(message { _ = try DatasetFile(path: scratch.file("none.json")) }.contains("no such file"))
    #expect(message { _ = try DatasetFile(path: scratch.path) }.contains(".json, .jsonl or .csv"))
    #expect(error("", "d.txt").contains(".json, .jsonl or .csv"))
    #expect(error("[]", "d.json").contains("holds no rows"))
    #expect(error("", "d.jsonl").contains("holds no rows"))
    #expect(error("video,caption\n", "d.csv").contains("holds no rows"))
    #expect(error("{}", "d.json").contains("must be a list of objects"))
    #expect(
      error(#"[{"video": "a", "caption": "b"}, "c"]"#, "d.json").contains("d.json:1: must be an object"))
    #expect(
      error("[{\"video\": \"a\", \"caption\": \"b,\"},\n]", "d.json").contains("d.json:2: is not valid JSON"))
    #expect(
      error("{\"video\": \"a\", \"caption\": \"b\"}\n{", "d.jsonl").contains("d.jsonl:2: is not valid JSON"))
    let latin = scratch.file("latin.csv")
    try Data([0x76, 0x2C, 0xE9, 0x0A]).write(to: URL(fileURLWithPath: latin))
    #expect(message { _ = try DatasetFile(path: latin) }.contains("is not UTF-8"))
  }

  @Test func `CSV that is broken`() throws {
    #expect(
      error("video,caption\na.mp4,\"x\n", "d.csv").contains("d.csv:2: a quote is opened and never closed"))
    #expect(
      error("video,caption\na.mp4,\"x\" y\n", "d.csv").contains("d.csv:2: text follows a closing quote"))
    #expect(error("video,caption\na.mp4,x,y\n", "d.csv").contains("d.csv:2: the row has 3 fields"))
    #expect(error("video,caption,video\na.mp4,x,y\n", "d.csv").contains("\"video\" stands twice"))
  }

  @Test func `Columns that are missing`() throws {
    let noCaption = error(#"[{"video": "a.mp4", "title": "b"}]"#, "d.json")
    #expect(noCaption.contains("no caption column") && noCaption.contains("title, video"))
    #expect(error(#"[{"caption": "b"}]"#, "d.json").contains("no media column"))
    #expect(
      error(#"[{"video": "a", "caption": "b"}]"#, "d.json", caption: "words").contains(
        "no column \"words\" (--caption-column)"))
  }

  @Test func `Rows without a caption or a media file`() throws {
    #expect(
      error("{\"video\": \"a\", \"caption\": \"b\"}\n{\"video\": \"c\"}", "d.jsonl").contains(
        "d.jsonl:2: the caption is missing"))
    #expect(
      error("video,caption\na.mp4, \n", "d.csv").contains("d.csv:2: the caption in \"caption\" is empty"))
    #expect(error(#"[{"video": "a", "caption": 3}]"#, "d.json").contains("must be text"))
    #expect(error(#"[{"video": null, "caption": "b"}]"#, "d.json").contains("no media column"))
  }

  @Test func `Two rows of one name`() throws {
    let found = error("video,caption\na.mp4,x\nb.mp4,y\n./a.mov,z\n", "d.csv")
    #expect(found.contains("d.csv:4: ./a.mov would be cached under the same name as the row of line 2"))
  }
}

@Suite struct ResolutionBucketTests {
  @Test func `Buckets are read from text`() throws {
    #expect(
      try ResolutionBucket.list("768x512x49; 64x64x9") == [
        ResolutionBucket(width: 768, height: 512, frames: 49),
        ResolutionBucket(width: 64, height: 64, frames: 9),
      ])
    for text in ["", "64x64", "64x64x9;", "64x64xx9", "64x-64x9", "0x64x9", "ax64x9", "64x64x9x1"] {
      #expect(message { _ = try ResolutionBucket.list(text) }.contains("no bucket"), "\(text)")
    }
  }

  @Test func `Sizes fit the checkpoint's compression, whatever it is`() throws {
    let usual = CompressionFactors(time: 8, height: 32, width: 32)
    func error(_ width: Int, _ height: Int, _ frames: Int, _ factors: CompressionFactors) -> String {
      message { try ResolutionBucket(width: width, height: height, frames: frames).requireFit(factors) }
    }
    try ResolutionBucket(width: 96, height: 64, frames: 1).requireFit(usual)
    try ResolutionBucket(width: 16, height: 24, frames: 5).requireFit(
      CompressionFactors(time: 4, height: 8, width: 16))
    #expect(error(100, 64, 9, usual).contains("100x64x9: the width must be a multiple of 32"))
    #expect(error(64, 65, 9, usual).contains("64x64 is near"))
    #expect(error(64, 64, 10, usual).contains("multiple of 8, plus 1; 9 and 17 are near"))
    #expect(error(64, 64, 9, CompressionFactors(time: 16, height: 32, width: 32)).contains("multiple of 16"))
  }

  @Test func `The nearest aspect, then the longest, then the largest`() throws {
    let buckets = try ResolutionBucket.list("64x64x9;128x128x9;128x64x17;64x128x17;32x32x25")
    #expect(buckets.best(width: 1920, height: 1080, frames: 100)?.description == "128x64x17")
    #expect(buckets.best(width: 1080, height: 1920, frames: 100)?.description == "64x128x17")
    #expect(buckets.best(width: 500, height: 500, frames: 100)?.description == "32x32x25")
    #expect(buckets.best(width: 500, height: 500, frames: 24)?.description == "128x128x9")
    #expect(buckets.best(width: 1920, height: 1080, frames: 10)?.description == "128x128x9")
    #expect(buckets.best(width: 10, height: 10, frames: 8) == nil)
    // By the logarithm 1 lies nearer to 7/4 than to 1/2, by the difference it does not.
    let two = try ResolutionBucket.list("64x128x9;112x64x9")
    #expect(two.best(width: 64, height: 64)?.description == "112x64x9")
  }
}
