import Foundation
import LTX
import Media
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import Datasets

@Suite struct CacheCheckTests {
  private let cache: CachedFiles

  /// Three samples with all files.
  init() throws {
    cache = try CachedFiles()
    for name in ["a", "sub/b", "c"] {
      try cache.latents(name)
      try cache.latents(name, folder: "reference_latents", shape: [4, 2, 1, 1])
      try cache.conditions(name)
      try cache.audio(name)
      try cache.audio(name, folder: "reference_audio_latents", steps: 26, duration: 1)
      try cache.mask(name, [2, 2, 3])
      try cache.mask(name, folder: "audio_masks", [10])
    }
  }

  private func check(_ change: (inout DatasetCheckOptions) -> Void = { _ in }) throws
    -> DatasetReport
  {
    var options = DatasetCheckOptions()
    change(&options)
    return try CacheChecker(cache: cache.scratch.path, options).run()
  }

  /// The only problem of the cache.
  private func problem() throws -> DatasetProblem {
    let problems = try check().problems
    #expect(problems.count == 1, "\(problems)")
    return try #require(problems.first)
  }

  private func expect(
    _ kind: DatasetProblem.Kind, _ file: String, _ text: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let found = try problem()
    #expect(
      found.kind == kind && found.file == file && found.problem.contains(text), "\(found)",
      sourceLocation: sourceLocation)
  }

  @Test func aWholeCacheHasNoProblems() throws {
    let report = try check()
    #expect(report.problems.isEmpty, "\(report.problems)")
    #expect(report.samples == 3 && report.files == 21)
    #expect(
      report.notes.contains { $0.hasPrefix("21 of 21 files don't record what they were made from") }
    )
    #expect(try CacheChecker(cache: cache.root).run().problems.isEmpty)
  }

  // MARK: Single files

  @Test func filesThatAreCutOffOrNoTensors() throws {
    let path = "\(cache.root)/reference_latents/a.safetensors"
    let whole = try Data(contentsOf: URL(fileURLWithPath: path))
    try whole.dropLast(1).write(to: URL(fileURLWithPath: path))
    try expect(.unreadable, "reference_latents/a.safetensors", "the file ends within its tensors")
    try Data().write(to: URL(fileURLWithPath: path))
    try expect(.unreadable, "reference_latents/a.safetensors", "too few for a safetensors file")
  }

  @Test func sizesThatContradictTheLatents() throws {
    try cache.write(
      "latents/a",
      [
        ("latents", try Tensor.ones([4, 2, 2, 3], dtype: .bfloat16)), ("num_frames", Tensor([3])),
        ("height", Tensor([2])), ("width", Tensor([3])), ("fps", Tensor([25.0])),
      ])
    try expect(
      .tensors, "latents/a.safetensors", "num_frames is 3, but latents has shape [4, 2, 2, 3]")
    try cache.latents("a", fps: .nan)
    let problems = try check().problems
    #expect(problems.map(\.kind) == [.tensors, .numbers], "\(problems)")
  }

  @Test func wrongTensorsOfEveryKindOfFile() throws {
    for (name, tensors, text) in [
      ("latents/a", [("x", try Tensor.ones([1]))], "latents is missing"),
      (
        "latents/a", [("latents", try Tensor.ones([4, 2, 2, 3, 1]))],
        "expected [channels, num_frames, height, width]"
      ),
      (
        "latents/a", [("latents", try Tensor.ones([12, 4]))],
        "not all of num_frames, height, width are recorded"
      ),
      (
        "latents/a", [("latents", try Tensor.ones([4, 2, 2, 3], dtype: .int64))],
        "expected a floating-point dtype"
      ),
      (
        "audio_latents/a", [("latents", try Tensor.ones([40, 2]))],
        "not all of num_time_steps, frequency_bins are recorded"
      ),
      (
        "conditions/a", [("video_prompt_embeds", try Tensor.ones([8, 6]))],
        "prompt_attention_mask is missing"
      ),
      (
        "conditions/a",
        [
          ("video_prompt_embeds", try Tensor.ones([8, 6])),
          ("prompt_attention_mask", try Tensor.ones([7], dtype: .int64)),
        ], "prompt_attention_mask has shape [7], but there are 8 rows"
      ),
      ("video_masks/a", [("mask", try Tensor.ones([2, 2]))], "mask has shape [2, 2]"),
    ] as [(String, [(String, Tensor)], String)] {
      let path = "\(cache.root)/\(name).safetensors"
      let before = try Data(contentsOf: URL(fileURLWithPath: path))
      try cache.write(name, tensors)
      try expect(.tensors, "\(name).safetensors", text)
      try before.write(to: URL(fileURLWithPath: path))
    }
  }

  @Test func nonFiniteValues() throws {
    for dtype in [DType.bfloat16, .float16, .float32, .float64] {
      func scan(_ values: [Double]) throws -> NumberScan {
        let tensor = try Tensor(values).to(dtype)
        return try tensor.withUnsafeBytes { NumberScan($0, dtype) }
      }
      let largest = dtype.largestFinite
      #expect(try scan([1, -largest, largest]) == scan([2]), "\(dtype)")
      #expect(try scan([1, -.infinity]).hasInfinity && !scan([1, -.infinity]).hasNaN, "\(dtype)")
      #expect(try scan([1, .nan, .infinity]).hasNaN, "\(dtype)")
      #expect(try scan([0, -0.0]).isAllZero && !scan([0, -1]).isAllZero, "\(dtype)")
    }
    try cache.write(
      "audio_latents/c",
      [
        ("latents", try Tensor(Array(repeating: Float(1), count: 79) + [.nan], shape: [2, 10, 4])),
        ("num_time_steps", Tensor([10])), ("frequency_bins", Tensor([4])),
        ("duration", Tensor([0.36])),
      ])
    try expect(.numbers, "audio_latents/c.safetensors", "latents holds NaN")
  }

  // MARK: Files together

  @Test func filesUnlikeTheOthers() throws {
    try cache.latents("a", shape: [5, 2, 2, 3])
    try expect(
      .inconsistent, "latents/a.safetensors",
      "holds 5 channels in bfloat16, but most of its kind hold 4 channels in bfloat16")
    try cache.latents("a", dtype: .float32)
    try expect(.inconsistent, "latents/a.safetensors", "in float32")
    try cache.latents("a")
    try cache.conditions("c", width: 7)
    try expect(
      .inconsistent, "conditions/c.safetensors", "8 rows of text features of width 7 and 7")
  }

  @Test func aSampleInBothFormats() throws {
    try cache.scratch.write("x", to: ".precomputed/conditions/extra.pt")
    try cache.scratch.write("x", to: ".precomputed/conditions/extra.safetensors")
    let found = try check().problems
    #expect(
      found.contains { $0.kind == .inconsistent && $0.file == "conditions/extra" }, "\(found)")
  }

  @Test func samplesOfWhichAFileIsMissing() throws {
    func remove(_ name: String) throws {
      try FileManager.default.removeItem(atPath: "\(cache.root)/\(name).safetensors")
    }
    try remove("conditions/sub/b")
    try expect(.incomplete, "latents/sub/b.safetensors", "has no text features")
    try cache.conditions("sub/b")
    try remove("reference_latents/a")
    try expect(
      .incomplete, "latents/a.safetensors", "has no reference video; 2 of 3 samples have one")
    try remove("reference_latents/sub/b")
    try remove("reference_latents/c")
    #expect(try check().problems.isEmpty, "no sample has one")
    try cache.conditions("d")
    try expect(
      .incomplete, "conditions/d.safetensors", "has text features but no video in latents/")
  }

  @Test func masksAndAudioThatDontFit() throws {
    try cache.mask("a", [1, 2, 3])
    try expect(
      .mismatch, "video_masks/a.safetensors",
      "mask has shape [1, 2, 3], but the latents are [2, 2, 3]")
    try cache.mask("a", [2, 2, 3])
    try cache.mask("c", folder: "audio_masks", [9])
    try expect(
      .mismatch, "audio_masks/c.safetensors",
      "mask has shape [9], but the audio latents have 10 steps")
    try cache.mask("c", folder: "audio_masks", [10])
    try cache.audio("c", duration: 0.39)
    #expect(try check().problems.isEmpty, "within a step of 0.04 s")
    try cache.latents("c", fps: 20)
    try expect(.mismatch, "audio_latents/c.safetensors", "lasts 0.390 s, but the video 0.450 s")
    try cache.latents("c")
    try cache.audio("c", steps: 10, duration: 0.55)
    #expect(try check().problems.count == 2)
  }

  @Test(arguments: [.leastNonzeroMagnitude, 1e-30, 0.0099, 10_000, -1])
  func ratesThatAreNone(_ fps: Double) throws {
    try cache.latents("c", fps: fps)
    try expect(.tensors, "latents/c.safetensors", "fps is \(fps), which is not a frame rate")
  }

  @Test func leftoversOfKilledRunsAreReported() throws {
    try cache.scratch.write("x", to: ".precomputed/latents/sub/.b.safetensors.1a2b.partial")
    try expect(.leftover, "latents/sub/.b.safetensors.1a2b.partial", "Remove it")
  }

  @Test func filesMadeWithAnotherModel() throws {
    for (name, model) in [("a", "1"), ("sub/b", "1"), ("c", "2")] {
      try cache.latents(name, ["content": "ltx latents 2", "model": model])
    }
    try expect(.fingerprint, "latents/c.safetensors", "another model than most")
    let model = try TinyModelFiles.ltx2()
    let problems = try check { $0.models = ModelFiles(unified: model.checkpoint) }.problems
    #expect(
      problems.count == 3
        && problems.allSatisfy { $0.problem.contains("another model than the given one") })
    let identity = try FileIdentity.identity(of: model.checkpoint)
    for name in ["a", "sub/b", "c"] {
      try cache.latents(name, ["model": identity, "bucket": name == "c" ? "96x64x17" : "96x64x9"])
    }
    let wrong = try check { $0.models = ModelFiles(unified: model.checkpoint) }.problems
    #expect(wrong.map(\.file) == ["latents/c.safetensors"], "\(wrong)")
    #expect(
      wrong.first?.problem.contains("the bucket 96x64x17, but its latents are 96x64x9") == true)
  }

  // MARK: Caches of others

  private static let pt = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent()
    .appendingPathComponent("Fixtures/cached-pt").path

  @Test(arguments: ["new", "old"]) func cachesOfTheOfficialTrainer(_ layout: String) throws {
    let report = try CacheChecker(cache: "\(Self.pt)/\(layout)").run()
    #expect(
      report.problems.isEmpty && report.samples == 1 && report.files == 3, "\(report.problems)")
    let statistics = try DatasetStatistics(cache: "\(Self.pt)/\(layout)")
    #expect(statistics.buckets.map(\.value) == ["96x64x9"])
    #expect(statistics.samples.first?.captionTokens == 5)
    #expect(statistics.durations?.sum == 0.36)
  }

  @Test func namesOfOlderCaches() throws {
    let old = try CachedFiles()
    try old.latents("latent_7")
    try old.conditions("condition_7")
    #expect(try CacheChecker(cache: old.root).run().problems.isEmpty)
  }

  @Test func noCacheAtAll() throws {
    #expect(
      message { _ = try CacheChecker(cache: cache.scratch.file("none")) }.contains(
        "does not exist"))
    let empty = try ScratchFolder()
    #expect(
      message { _ = try CacheChecker(cache: empty.path) }.contains("has no latents/, conditions/")
    )
  }
}
