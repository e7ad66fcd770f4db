import Foundation
import LTX
import Media
import Support
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import Datasets

/// Which files a second run makes again, and which it keeps.
@Suite struct PreprocessingRerunTests {
  private let fixture: PreprocessingFixture

  init() throws { fixture = try PreprocessingFixture(ownsModel: true) }

  @Test func captionsAreEncodedAnewForATextEncoderInInt8AndBack() throws {
    try fixture.clip("a.mp4", frames: 9)
    try fixture.dataset([("a.mp4", "a red ball")])
    var options = try fixture.options()
    let first = try fixture.run(options)
    #expect(first.encoded(.conditions) == 1 && first.upToDate(.conditions) == 0)
    let whole = try fixture.cached("conditions/a").tensor("video_prompt_embeds").clone()
    options.textEncoder8bit = true
    let summary = try fixture.run(options)
    #expect(summary.encoded(.conditions) == 1 && summary.encoded(.latents) == 0)
    let rounded = try fixture.cached("conditions/a").tensor("video_prompt_embeds").clone()
    let distance = try fixture.difference(rounded, whole)
    let largest = try whole.abs().amax().item()
    #expect(distance > 0 && distance < 0.1 * largest)
    #expect(try fixture.run(options).upToDate == 1)
    options.textEncoder8bit = false
    #expect(try fixture.run(options).encoded(.conditions) == 1)
  }

  /// The features of another version of the text encoder are never reused, though its weights have
  /// the same shapes.
  @Test func captionsAreEncodedAgainForAnotherTextEncoder() throws {
    try fixture.clip("a.mp4", frames: 9)
    try fixture.dataset([("a.mp4", "a red ball")])
    let options = try fixture.options()
    _ = try fixture.run(options)
    #expect(try fixture.run(options).upToDate == 1)
    let config = fixture.model.textEncoder + "/config.json"
    let text = try String(contentsOfFile: config, encoding: .utf8)
    try Data(
      text.replacing(
        "\"model_type\": \"gemma3\",", with: "\"model_type\": \"gemma3\", \"gemma_version\": \"2\","
      ).utf8
    ).write(to: URL(fileURLWithPath: config))
    let summary = try fixture.run(options)
    #expect(summary.encoded(.conditions) == 1 && summary.encoded(.latents) == 0)
  }

  /// The empty prompt has its own file, which isn't a sample; a cache without the file gets it.
  @Test func theEmptyPromptIsEncodedOncePerCache() throws {
    try fixture.clip("a.mp4", frames: 9)
    try fixture.clip("b.mp4", frames: 9)
    try fixture.dataset([("a.mp4", "a red ball"), ("b.mp4", "a blue ball")])
    let options = try fixture.options()
    #expect(try fixture.run(options).encoded(.conditions) == 2)
    let path = try #require(EmptyPrompt.path(in: fixture.file(".precomputed")))
    let stored = try SafetensorsFile(path: path)
    let features = try Checkpoint(options.models).promptEncoder(
      dtype: .float32, device: .cpu, storage: .asStored)([""])
    #expect(
      try Tensor.isEqual(stored.tensor("video_prompt_embeds"), features.byModality.video.squeeze(0))
    )
    #expect(
      try Tensor.isEqual(stored.tensor("audio_prompt_embeds"), features.byModality.audio.squeeze(0))
    )
    #expect(try Tensor.isEqual(stored.tensor("prompt_attention_mask"), features.mask.squeeze(0)))
    #expect(
      try CacheFolder.files(below: fixture.file(".precomputed/conditions")).keys.sorted()
        == ["a", "b"])

    func written() throws -> Date? {
      try FileManager.default.attributesOfItem(atPath: path)[.modificationDate] as? Date
    }
    let first = try written()
    #expect(try fixture.run(options).upToDate == 2)
    #expect(try written() == first)
    try FileManager.default.removeItem(atPath: path)
    #expect(try fixture.run(options).encoded(.conditions) == 0)
    #expect(FileManager.default.fileExists(atPath: path))

    var compatible = options
    compatible.isCompatible = true
    compatible.outputFolder = fixture.file("compatible")
    _ = try fixture.run(compatible)
    #expect(EmptyPrompt.path(in: fixture.file("compatible")) == nil)
  }

  @Test func changedRepeatsRewriteTheIndexAndEncodeNothing() throws {
    for name in ["a.mp4", "b.mp4"] { try fixture.clip(name, frames: 9) }
    func rerun(_ repeats: String?) throws -> PreprocessingReport {
      try fixture.dataset([
        ["video": "a.mp4", "caption": "first"].merging(
          repeats.map { ["repeats": $0] } ?? [:]
        ) { $1 },
        ["video": "b.mp4", "caption": "second"],
      ])
      return try fixture.run(try fixture.options())
    }
    let cache = fixture.file(".precomputed")
    let first = try rerun("3")
    #expect(first.notes.contains { $0.contains("an epoch of training shows 4 samples") })
    #expect(try SampleRepeats(cache: cache).repeats(of: "a") == 3)
    #expect(try SampleRepeats(cache: cache).repeats(of: "b") == 1)
    #expect(try DatasetStatistics(cache: cache).samplesPerEpoch == 4)
    #expect(try CacheChecker(cache: cache).run().problems.isEmpty)

    #expect(try rerun("2").upToDate == 2)
    #expect(try SampleRepeats(cache: cache).repeats(of: "a") == 2)

    // A dataset that the cache has not seen yet.
    try fixture.dataset([
      ["video": "a.mp4", "caption": "first", "repeats": "5"],
      ["video": "b.mp4", "caption": "second"],
    ])
    let problems = try CacheChecker(cache: cache).run().problems
    #expect(problems.map(\.kind) == [.repeats] && problems.first?.sample == "a")

    #expect(try rerun(nil).upToDate == 2)
    #expect(
      !FileManager.default.fileExists(atPath: "\(cache)/\(SampleRepeats.fileName)"))

    try Data("{".utf8).write(to: URL(fileURLWithPath: "\(cache)/\(SampleRepeats.fileName)"))
    #expect(throws: Support.Issue.self) { try SampleRepeats(cache: cache) }
    #expect(try CacheChecker(cache: cache).run().problems.map(\.kind) == [.repeats])
    #expect(try rerun("2").notes.contains { $0.contains("written again") })
    #expect(try SampleRepeats(cache: cache).repeats(of: "a") == 2)
  }

  @Test func aRerunEncodesWhatIsMissingOrHasChangedAndNothingElse() throws {
    var rows = [("a.mp4", "first"), ("b.mp4", "second"), ("c.mp4", "third")]
    for (name, _) in rows { try fixture.clip(name, frames: 9) }
    try fixture.dataset(rows)
    var options = try fixture.options()

    func rerun(_ clips: Int, _ captions: Int, _ why: Comment) throws {
      let summary = try fixture.run(options)
      #expect((summary.encoded(.latents), summary.encoded(.conditions)) == (clips, captions), why)
    }
    try rerun(3, 3, "nothing was there")
    #expect(try fixture.run(options).upToDate == 3)
    try rerun(0, 0, "nothing changed")

    rows[1].1 = "another second"
    try fixture.dataset(rows)
    try rerun(0, 1, "a caption changed")

    try fixture.clip("c.mp4", frames: 10)
    try rerun(1, 0, "a clip changed")

    try FileManager.default.removeItem(
      atPath: fixture.file(".precomputed/conditions/a.safetensors"))
    try rerun(0, 1, "a file is missing")

    let handle = try #require(
      FileHandle(forWritingAtPath: fixture.file(".precomputed/latents/b.safetensors")))
    try handle.truncate(atOffset: 300)
    try handle.close()
    try rerun(1, 0, "a file is cut off")

    try writeSafetensors(
      [("latents", Tensor.zeros([1]))], to: fixture.file(".precomputed/latents/b.safetensors"))
    try rerun(1, 0, "a file of another maker")

    options.loraTrigger = "zxqv"
    try rerun(0, 3, "another trigger")
    options.buckets = try ResolutionBucket.list("64x64x1")
    try rerun(3, 0, "other buckets")
    options.vaeTiling = true
    try rerun(3, 0, "tiles")
    options.dtype = .bfloat16
    try rerun(3, 3, "another dtype")
    options.overwrite = true
    try rerun(3, 3, "overwriting everything")
    options.overwrite = false
    try rerun(0, 0, "nothing changed")

    // A model of the same size with other values.
    _ = try TinyModel.write(to: fixture.file("model"), seed: 2, isOverwriting: true)
    try rerun(3, 3, "another model")
  }

  @Test func eachFileFollowsWhatItIsMadeFromAndNoMore() throws {
    try fixture.clip("a.mp4", width: 128, height: 64, frames: 17, audio: 1)
    try fixture.clip("b.mp4", frames: 9)
    try fixture.clip("r.mp4", width: 128, height: 64, frames: 17)
    try RGBFrame(bytes: [UInt8](repeating: 255, count: 48), width: 4, height: 4).writePNG(
      to: fixture.file("m.png"))
    func dataset(_ mask: String = "m.png") throws {
      try fixture.dataset([
        ["video": "a.mp4", "caption": "one", "reference_video": "r.mp4", "video_mask": mask],
        ["video": "b.mp4", "caption": "two", "reference_video": "r.mp4", "video_mask": mask],
      ])
    }
    try dataset()
    var options = try fixture.options("128x64x9;64x64x9")
    func rerun(_ counts: [CacheFolder: Int], _ why: Comment) throws {
      let report = try fixture.run(options)
      #expect(report.failures.isEmpty, why)
      for folder in [
        CacheFolder.conditions, .latents, .audioLatents, .referenceLatents, .videoMasks,
      ] {
        #expect(report.encoded(folder) == counts[folder] ?? 0, "\(why): \(folder)")
      }
    }
    try rerun(
      [.conditions: 2, .latents: 2, .audioLatents: 1, .referenceLatents: 2, .videoMasks: 2],
      "nothing was there")
    try rerun([:], "nothing changed")

    options.buckets.append(ResolutionBucket(width: 64, height: 128, frames: 9))
    try rerun([:], "a bucket that suits no clip")
    options.buckets = try ResolutionBucket.list("128x64x17;64x64x9")
    try rerun(
      [.latents: 1, .audioLatents: 1, .referenceLatents: 1, .videoMasks: 1],
      "a longer bucket that suits one of the clips")

    try fixture.clip("r.mp4", width: 128, height: 64, frames: 18)
    try rerun([.referenceLatents: 2], "another reference")
    try RGBFrame(bytes: [UInt8](repeating: 0, count: 48), width: 4, height: 4).writePNG(
      to: fixture.file("m.png"))
    try rerun([.videoMasks: 2], "another mask")
    try FileManager.default.copyItem(atPath: fixture.file("m.png"), toPath: fixture.file("n.png"))
    try dataset("n.png")
    try rerun([:], "the same mask by another name")
    options.referenceDownscale = 1
    options.isCompatible = true
    try rerun(
      [.latents: 2, .audioLatents: 1, .referenceLatents: 2, .videoMasks: 2], "upstream's rules")
  }

  /// The size and times are the same, as in a copy that keeps them: only the content differs.
  @Test func aSourceThatWasExchangedBehindItsTimesIsNoticed() throws {
    try fixture.clip("a.mp4", frames: 9)
    try fixture.dataset([("a.mp4", "x")])
    let path = fixture.file("a.mp4")
    try fixture.run(fixture.options())
    #expect(try fixture.run(fixture.options()).upToDate == 1)
    var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
    let times = try FileManager.default.attributesOfItem(atPath: path)[.modificationDate]
    bytes[bytes.count - 1] ^= 1
    try bytes.write(to: URL(fileURLWithPath: path))
    try FileManager.default.setAttributes(
      [.modificationDate: try #require(times)], ofItemAtPath: path)
    #expect(try fixture.run(fixture.options()).encoded(.latents) == 1)
    // Touched, but unchanged.
    try FileManager.default.setAttributes([.modificationDate: Date()], ofItemAtPath: path)
    #expect(try fixture.run(fixture.options()).upToDate == 1)
  }

  @Test func aClipThatLostItsAudioLosesItInTheCache() throws {
    try fixture.clip("a.mp4", frames: 9, audio: 1)
    try fixture.dataset([("a.mp4", "x")])
    #expect(try fixture.run(fixture.options()).encoded(.audioLatents) == 1)
    try fixture.clip("a.mp4", frames: 9)
    let report = try fixture.run(fixture.options())
    #expect(report.withoutAudio == 1 && report.failures.isEmpty)
    #expect(!fixture.isCached("audio_latents/a"))
    #expect(try fixture.run(fixture.options()).upToDate == 1)
  }

  @Test func removingTheAudioColumnRemovesTheCachedAudio() throws {
    try fixture.clip("a.mp4", frames: 9)
    try fixture.audio("own.wav", seconds: 1)
    try fixture.dataset([["video": "a.mp4", "caption": "x", "audio": "own.wav"]])
    #expect(try fixture.run(fixture.options()).encoded(.audioLatents) == 1)
    try fixture.dataset([("a.mp4", "x")])
    #expect(try fixture.run(fixture.options()).failures.isEmpty)
    #expect(!fixture.isCached("audio_latents/a") && fixture.isCached("latents/a"))
  }

  @Test func filesThatNoRowNeedsAreReported() throws {
    try fixture.clip("a.mp4", frames: 9, audio: 1)
    try fixture.dataset([["video": "a.mp4", "caption": "x", "reference_video": "a.mp4"]])
    var options = try fixture.options()
    #expect(try !fixture.run(options).notes.contains { $0.contains("earlier run") })
    try fixture.dataset([("a.mp4", "x")])
    options.audio = .skipped
    let told = try fixture.run(options).notes.filter { $0.contains("that an earlier run made") }
    #expect(told.count == 2)
    #expect(told.first?.hasPrefix("audio_latents/ holds") == true)
    #expect(told.last?.hasPrefix("reference_latents/ holds") == true)
    #expect(fixture.isCached("reference_latents/a"), "what was paid for is not thrown away")
  }

  /// "é" is one code point or two: equivalent in Unicode, but not to a tokenizer.
  @Test func captionsThatOnlyLookAlikeAreEncodedEach() throws {
    for name in ["a", "b"] { try fixture.clip("\(name).mp4", frames: 9) }
    try fixture.dataset([("a.mp4", "caf\u{e9}"), ("b.mp4", "cafe\u{301}")])
    try fixture.run(fixture.options())
    let (a, b) = (try fixture.cached("conditions/a"), try fixture.cached("conditions/b"))
    #expect(
      try a.tensor("prompt_attention_mask").array(of: Float.self)
        != b.tensor("prompt_attention_mask").array(of: Float.self)
        || fixture.difference(a.tensor("video_prompt_embeds"), b.tensor("video_prompt_embeds")) > 0)
    try fixture.dataset([("a.mp4", "cafe\u{301}"), ("b.mp4", "cafe\u{301}")])
    #expect(try fixture.run(fixture.options()).encoded(.conditions) == 1)
  }

  /// With two formats, training must not find an older file beside a newer one.
  @Test func anotherFormatTakesThePlaceOfTheFirst() throws {
    try fixture.clip("a.mp4", frames: 9, audio: 1)
    try fixture.dataset([("a.mp4", "x")])
    var options = try fixture.options()
    try fixture.run(options)
    let wanted = try fixture.cached("latents/a").tensor("latents").clone()
    options.format = .pt
    #expect(try fixture.run(options).encoded(.latents) == 1)
    let files = fixture.scratch.files(below: ".precomputed").filter { !$0.hasPrefix(".") }
    #expect(
      files == [
        "audio_latents/a.pt", "conditions/.empty.pt", "conditions/a.pt", "latents/a.pt",
        "report.json",
      ])
    #expect(try fixture.run(options).upToDate == 1)
    let file = try TorchFile(path: fixture.file(".precomputed/latents/a.pt"))
    #expect(try fixture.difference(file.tensor("latents"), wanted) == 0)
    #expect(file.root["num_frames"]?.int == 2)
    #expect(try file.number("fps") == 25)
  }
}
