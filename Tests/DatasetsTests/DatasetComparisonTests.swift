import Foundation
import LTX
import Media
import Support
import TestSupport
import Testing
import Torch

@testable import Datasets

/// A cache beside the dataset file that it was made from.
@Suite struct DatasetComparisonTests {
  private let cache: CachedFiles

  init() throws { cache = try CachedFiles() }

  /// Two samples with unchanged sources and captions.
  private func prepare(trigger: String = "") throws {
    var rows: [(video: String, caption: String)] = []
    for (name, caption) in [("a", "a red ball"), ("b", "a blue ball")] {
      let path = try cache.scratch.write("media of \(name)", to: "\(name).mp4")
      try cache.latents(
        name, ["content": "ltx latents 2", "source_sha256": try SHA256.hex(ofFile: path)])
      try cache.conditions(name, ["content": "ltx conditions 2", "prompt": trigger + caption])
      rows.append(("\(name).mp4", caption))
    }
    try cache.dataset(rows)
  }

  private func problems(_ change: (inout DatasetCheckOptions) -> Void = { _ in }) throws
    -> [DatasetProblem]
  {
    var options = DatasetCheckOptions()
    change(&options)
    return try CacheChecker(cache: cache.scratch.path, options).run().problems
  }

  @Test func nothingHasChanged() throws {
    try prepare()
    #expect(try problems().isEmpty)
    try prepare(trigger: "zxq ")
    #expect(try problems().isEmpty, "with a trigger")
  }

  @Test func rowsWithoutCacheAndCacheWithoutRows() throws {
    try prepare()
    try cache.dataset([("a.mp4", "a red ball"), ("new.mp4", "new"), ("sub/../a.mp4", "again")])
    let found = try problems { $0.skipsSources = true }
    #expect(
      found.map(\.description) == [
        "line 3: sub/../a.mp4 would be cached under the same name as the row of line 1, a. List a clip once, and rename "
          + "files that differ only in their extension.",
        "\(cache.scratch.file("new.mp4")), line 2: is not preprocessed; run `ltx preprocess`",
        "latents/b.safetensors: has no row in \(cache.scratch.file("dataset.jsonl")), but training "
          + "uses it",
      ])
  }

  @Test func mediaThatChangedOrWent() throws {
    try prepare()
    try cache.scratch.write("other media", to: "a.mp4")
    try FileManager.default.removeItem(atPath: cache.scratch.file("b.mp4"))
    let found = try problems()
    #expect(found.map(\.kind) == [.source, .source])
    #expect(found.map(\.line) == [1, 2])
    #expect(found.first?.problem.contains("has changed since it was cached") == true)
    #expect(found.last?.problem == "does not exist")
    #expect(try problems { $0.skipsSources = true }.isEmpty)
  }

  @Test func filesThatGoWithAClipHaveSourcesOfTheirOwn() throws {
    try prepare()
    for (name, text) in [("a.wav", "sound"), ("mask.png", "mask")] {
      try cache.scratch.write(text, to: name)
    }
    try cache.audio("a", ["source_sha256": try SHA256.hex(ofFile: cache.scratch.file("a.wav"))])
    try cache.audio("b", ["source_sha256": try SHA256.hex(ofFile: cache.scratch.file("b.mp4"))])
    try cache.mask(
      "a", [2, 2, 3], ["source_sha256": try SHA256.hex(ofFile: cache.scratch.file("mask.png"))])
    try cache.mask("b", [2, 2, 3])
    try cache.scratch.write(
      """
      {"video": "a.mp4", "caption": "a red ball", "audio": "a.wav", "video_mask": "mask.png"}
      {"video": "b.mp4", "caption": "a blue ball", "video_mask": "none.png"}
      """, to: "dataset.jsonl")
    #expect(
      try problems().map(\.description) == [
        "\(cache.scratch.file("none.png")), line 2: does not exist"
      ])
    try cache.scratch.write("x", to: "a.wav")
    try cache.scratch.write("x", to: "b.mp4")
    try cache.scratch.write("x", to: "mask.png")
    #expect(
      try problems().map(\.file)
        == ["a.wav", "b.mp4", "mask.png", "none.png"].map(cache.scratch.file))
  }

  @Test func captionsThatChangedOrAreEmpty() throws {
    for trigger in ["", "zxq "] {
      try prepare(trigger: trigger)
      try cache.dataset([("a.mp4", "a red ball"), ("b.mp4", "two blue balls")])
      var found = try problems()
      #expect(found.map(\.kind) == [.caption] && found.first?.line == 2, "\(found)")
      #expect(found.first?.file == "conditions/b.safetensors")
      #expect(found.first?.problem.contains("\"\(trigger)a blue ball\"") == true)
      try cache.dataset([("a.mp4", " "), ("b.mp4", "a blue ball")])
      found = try problems()
      #expect(found.map(\.problem) == ["a.mp4: caption: is empty. Fill it in or remove the row."])
    }
  }

  @Test func theTriggerIsWhatMostCaptionsHaveBeforeThem() {
    let trigger = PromptTrigger([("zxq a", "a"), ("zxq b", "b"), ("c", "c"), ("other", "d")])
    #expect(trigger.trigger == "zxq")
    #expect(trigger.reads("b", as: "zxq b", options: nil))
    #expect(trigger.reads(" b\n", as: "zxq  b\n", options: nil), "white space around a caption")
    #expect(!trigger.reads("c", as: "c", options: nil))
    #expect(!trigger.reads("The video shows b", as: "zxq b", options: nil))
    #expect(trigger.reads("The video shows b", as: "zxq b", options: "remove-llm-prefixes"))
    #expect(PromptTrigger([]).prompt("x") == "x")
  }

  @Test func captionsThatAreTooLong() throws {
    try prepare()
    // According to the features, no row is padding.
    try cache.conditions("b", tokens: 8, ["prompt": "a blue ball"])
    #expect(
      try problems().map(\.problem) == [
        "the caption fills all 8 tokens, so its end is probably truncated. Shorten it"
      ])
    // The tokenizer gives the correct count.
    let encoder = try TinyModelFiles.ltx2().textEncoder
    #expect(try problems { $0.textEncoder = encoder }.isEmpty)
    let long = String(repeating: "xq ", count: 3000)
    try cache.conditions("b", tokens: 8, ["prompt": long])
    try cache.dataset([("a.mp4", "a red ball"), ("b.mp4", long)])
    let found = try problems { $0.textEncoder = encoder }
    #expect(found.count == 1 && found.first?.line == 2)
    #expect(
      found.first?.problem.contains("tokens, but the text encoder reads only the first 8") == true)
  }

  @Test func theDatasetFileBesideTheCache() throws {
    try prepare()
    try cache.scratch.write("{}", to: "report.json")
    try cache.scratch.write("video,caption\nelse.mp4,of something else\n", to: "else.csv")
    #expect(
      try CacheChecker(cache: cache.scratch.path).listing?.path
        == cache.scratch.file("dataset.jsonl"))
    try cache.scratch.write("video,caption\na.mp4,x\n", to: "other.csv")
    let checker = try CacheChecker(cache: cache.scratch.path)
    #expect(checker.listing == nil)
    #expect(checker.notes.first?.contains("found 2 dataset files beside the cache") == true)
    #expect(
      message { _ = try problems { $0.dataset = cache.scratch.file("report.json") } }.contains(
        "must be a list"))
  }

  @Test func `Statistics`() throws {
    try prepare()
    try cache.latents("a", shape: [4, 4, 2, 3], fps: 30000 / 1001.0, [:])
    try WAVWriter.write(
      [(0..<48000).map { 0.25 * sin(2 * Float.pi * 1000 * Float($0) / 48000) }], sampleRate: 48000,
      to: cache.scratch.file("a.wav"))
    try cache.dataset([("a.wav", "a red ball"), ("b.mp4", "a blue ball")])
    let statistics = try DatasetStatistics(cache: cache.scratch.path)
    #expect(statistics.samples.map(\.name) == ["a", "b"])
    #expect(
      statistics.buckets == [.init(value: "96x64x25", count: 1), .init(value: "96x64x9", count: 1)])
    #expect(
      statistics.frameRates == [.init(value: "25", count: 1), .init(value: "29.97", count: 1)])
    let durations = try #require(statistics.durations)
    #expect(
      abs(durations.maximum - 25 * 1001 / 30000.0) < 1e-12 && abs(durations.minimum - 0.36) < 1e-12)
    #expect(abs(durations.median - durations.sum / 2) < 1e-12)
    #expect(
      statistics.captionCharacters?.minimum == 10 && statistics.captionCharacters?.maximum == 11)
    #expect(statistics.captionTokens?.median == 5)
    // A sine of 1 kHz is what the standard's constant is for: 3.01 dB below its peak.
    #expect(abs(try #require(statistics.loudness).median + 15.05) < 0.02)
    #expect(abs(try #require(statistics.peak).median + 12.04) < 0.01)
    #expect(statistics.notes.contains { $0.contains("b.mp4") })
  }
}
