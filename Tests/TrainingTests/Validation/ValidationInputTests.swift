import Foundation
import Generation
import LTX
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import Training

/// Problems that are found before training, and cached encoded inputs.
@Suite struct ValidationInputTests {
  let fixture: ValidationFixture

  init() throws { fixture = try ValidationFixture() }

  private func problems(_ c: TrainingConfiguration) -> [ConfigurationProblems.Problem] {
    do {
      _ = try fixture.sampler(c)
      return []
    } catch let error as ConfigurationProblems {
      return error.problems
    } catch {
      Issue.record("\(error) is not a problem of the configuration")
      return []
    }
  }

  private func expect(
    _ c: TrainingConfiguration, _ key: String, _ words: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let found = problems(c)
    #expect(found.map(\.key) == [key], sourceLocation: sourceLocation)
    #expect(
      found.first.map { $0.message.contains("(sample 1)") && $0.message.contains(words) } == true,
      "\(found)", sourceLocation: sourceLocation)
  }

  @Test func impossibleConditionsAreReportedWithSampleAndKey() throws {
    let clip = try fixture.clip()
    func first(_ key: String) -> String { "validation.samples[0].conditions[0].\(key)" }
    let none = fixture.scratch.file("none.mp4")
    expect(fixture.with(.firstFrame(path: none)), first("image_or_video"), none)
    expect(fixture.with(.prefix(path: none, frames: 9)), first("video"), none)
    expect(
      fixture.with(.prefix(path: clip, frames: 10)), first("num_frames"),
      "8k + 1")
    expect(
      fixture.with(.prefix(path: clip)), first("video"),
      "nothing to generate")
    expect(
      fixture.with(.suffix(path: clip, frames: 9)), first("num_frames"),
      "multiple of 8")
    expect(fixture.with(.audioPrefix(path: none, seconds: 0.1)), first("audio"), none)
    expect(
      fixture.with(.audioPrefix(path: try fixture.audio(), seconds: 2)),
      first("duration"),
      "2.0 seconds")
    expect(
      fixture.with(.audioSuffix(path: try fixture.audio())),
      first("audio"),
      "nothing to generate")
    expect(fixture.with(.keep(path: clip, mask: none)), first("mask"), none)
    expect(fixture.with(.audioKeep(path: try fixture.audio(), mask: none)), first("mask"), none)
    let short = try fixture.clip("short.mp4", frames: 9)
    expect(
      fixture.with(.keep(path: short, mask: try fixture.mask())), first("video"), "has 9 frames")
    expect(
      fixture.with(
        .crop(path: clip, region: PixelRegion(top: 0, left: 0, bottom: 16, right: 64))),
      first("spatial_region"),
      "no latent cell")
    expect(
      fixture.with(
        .crop(path: clip, region: PixelRegion(top: 64, left: 64, bottom: 0, right: 0))),
      first("spatial_region"),
      "no latent cell")
    expect(
      fixture.with(
        .reference(path: clip, scale: ReferenceScale(space: 4, time: 1))
      ),
      first("downscale_factor"),
      "4 times coarser")
    // The message is about the second of two conditions.
    expect(
      fixture.with(
        .reference(path: clip, scale: ReferenceScale(space: 1, time: 1)),
        .reference(path: none, scale: ReferenceScale(space: 1, time: 1))
      ),
      "validation.samples[0].conditions[1].video", none)
    expect(fixture.with(.video(path: short)), "validation.video_dims", "must be at most")
    expect(fixture.with(.audio(path: none)), first("audio"), none)
  }

  @Test func impossibleSizesAreReportedWithSampleAndKey() throws {
    func dims(_ width: Int, _ height: Int, _ frames: Int) -> TrainingConfiguration {
      var c = fixture.configuration
      c.validation.samples[0].videoDims = VideoDimensions(
        width: width, height: height, frames: frames)
      return c
    }
    let key = "validation.samples[0].video_dims"
    expect(dims(65, 64, 17), key, "multiple of 32 (got 65). Use 64 or 96.")
    expect(dims(64, 0, 17), key, "multiple of 32")
    expect(dims(64, 64, 16), key, "Use 9 or 17")
    var c = fixture.configuration
    c.validation.videoDims.width = 100
    expect(c, "validation.video_dims", "Use 96 or 128")
    // Problems that samples share are reported once.
    c.validation.samples.append(ValidationSample(prompt: "b"))
    expect(c, "validation.video_dims", "Use 96 or 128")
    c = fixture.configuration
    c.validation.samples[0].prompt = " "
    expect(c, "validation.samples[0].prompt", "is empty")
    c = fixture.configuration
    c.validation.frameRate = .infinity
    expect(c, "validation.frame_rate", "frames a second")
    c = fixture.configuration
    c.validation.inferenceSteps = 0
    expect(c, "validation.inference_steps", "got 0")
    c = fixture.configuration
    c.validation.guidanceRescale = 2
    expect(c, "validation.guidance_rescale", "between 0 and 1")
  }

  @Test func conditionsOnEverythingGeneratedAreRefused() throws {
    var c = fixture.with(.video(path: try fixture.clip()))
    c.validation.generateAudio = false
    expect(c, "validation.generate_audio", "nothing else to generate")
    c = fixture.with(.audio(path: try fixture.audio()))
    c.validation.generateVideo = false
    expect(c, "validation.generate_video", "nothing else to generate")
    (c.validation.generateAudio, c.validation.samples[0].conditions) = (false, [])
    expect(c, "validation.generate_video", "nothing would be generated")
    // A modality that is not generated has no conditions.
    c = fixture.with(.audioPrefix(path: try fixture.audio(), seconds: 0.1))
    c.validation.generateAudio = false
    expect(c, "validation.samples[0].conditions[0].audio", "has no audio")
    c = fixture.with(.firstFrame(path: try fixture.image()))
    c.validation.generateVideo = false
    expect(c, "validation.samples[0].conditions[0].image_or_video", "no images")
  }

  @Test func allSamplesAreCheckedAtOnce() throws {
    var c = fixture.configuration
    c.validation.samples = [
      ValidationSample(prompt: "a", videoDims: VideoDimensions(width: 65, height: 64, frames: 9)),
      ValidationSample(prompt: "b"),
      ValidationSample(prompt: "c", conditions: [.firstFrame(path: "/none.png")]),
    ]
    #expect(
      problems(c).map(\.key) == [
        "validation.samples[0].video_dims", "validation.samples[2].conditions[0].image_or_video",
      ])
    c.model.textEncoderPath = fixture.scratch.file("none")
    #expect(problems(c).map(\.key) == ["model.text_encoder_path"])
    c.model.textEncoderPath = nil
    #expect(problems(c).map(\.key) == ["model.text_encoder_path"])
  }

  @Test func blocksThatAreNotThereAreNotPerturbed() throws {
    var c = fixture.configuration
    let sampler = try fixture.sampler(c)
    #expect(sampler.notes.count == 1 && sampler.notes[0].contains("validation.stg_blocks"))
    let blocks = try TransformerConfiguration(Checkpoint(path: fixture.model.checkpoint).config)
      .blocks
    for (given, expected) in [([0, 28], Set([0])), (nil, Set(0..<blocks)), ([28], [])]
      as [([Int]?, Set<Int>)]
    {
      c.validation.stgBlocks = given
      let request = try ValidationRequest(0, of: c, blocks: blocks)
      #expect(request.request.guidance.video.stgBlocks == expected)
      #expect(request.request.guidance.audio.stg == (expected.isEmpty ? 0 : 1))
      #expect(request.notes.isEmpty == !expected.isEmpty)
    }
  }

  /// A checkpoint of LTX-2.4 or later whose metadata does not name its text encoder.
  @Test func anUnknownTextEncoderIsReported() throws {
    let original = try SafetensorsFile(path: fixture.model.checkpoint)
    let path = fixture.scratch.file("unnamed.safetensors")
    try writeSafetensors(
      original.entries.keys.sorted().map { (key: $0, tensor: try original.tensor($0)) },
      metadata: original.metadata.merging(["model_version": "2.4.0"]) { $1 }, to: path)
    #expect(try fixture.sampler().notes.filter { $0.contains("text encoder") } == [])
    var c = fixture.configuration
    c.model.modelPath = path
    let notes = try fixture.sampler(c).notes.filter { $0.contains("text encoder") }
    #expect(notes.count == 1)
    #expect(notes.first?.hasPrefix("\(path) does not name its text encoder") == true)
  }

  // MARK: The cache of prompts

  /// The prompts that the text encoder reads.
  private func encoded(
    _ c: TrainingConfiguration, dtype: DType = .float32, _ warnings: Warnings = Warnings()
  )
    throws -> [String]
  {
    var prompts: [String] = []
    _ = try fixture.sampler(c, dtype: dtype, warnings: warnings) { progress in
      if case .encodePrompts(let encoded) = progress.stage { prompts = encoded }
    }
    return prompts
  }

  @Test func promptsAreEncodedOnceAndRememberedUntilTheyOrTheModelsChange() throws {
    var c = fixture.configuration
    c.validation.negativePrompt = "grey"
    c.validation.samples = ["one", "two", "one"].map { ValidationSample(prompt: $0) }
    #expect(try encoded(c) == ["one", "grey", "two"])
    let first = try fixture.sampler(c).run(
      transformer: fixture.transformer(), autocast: nil, step: 1)
    let bytes = try Data(contentsOf: URL(fileURLWithPath: first[1].path))
    #expect(try encoded(c) == [])
    c.validation.samples[1].prompt = "three"
    #expect(try encoded(c) == ["three"])
    #expect(try encoded(c, dtype: .bfloat16) == ["one", "grey", "three"])
    c.acceleration.loadTextEncoderIn8Bit = true
    #expect(try encoded(c) == ["one", "grey", "three"])
    c.acceleration.loadTextEncoderIn8Bit = false

    // Cached inputs give the same bytes.
    c.validation.samples[1].prompt = "two"
    c.outputDir = fixture.scratch.file("run")
    let again = try fixture.sampler(c).run(
      transformer: fixture.transformer(), autocast: nil, step: 2)
    #expect(try Data(contentsOf: URL(fileURLWithPath: again[1].path)) == bytes)

    // Other models with the same names.
    let copy = try fixture.model.copy(to: fixture.scratch.file("model"))
    c.model.modelPath = copy.checkpoint
    c.model.textEncoderPath = copy.textEncoder
    #expect(try encoded(c) == [])
    _ = try TinyModel.write(to: fixture.scratch.file("other"), seed: 2)
    let other = TinyModel.checkpointName
    try FileManager.default.removeItem(atPath: copy.checkpoint)
    try FileManager.default.moveItem(
      atPath: fixture.scratch.file("other/\(other)"), toPath: copy.checkpoint)
    #expect(try encoded(c) == ["one", "grey", "two"])
  }

  @Test func aDamagedOrForeignFileIsNotUsed() throws {
    let c = fixture.configuration
    let warnings = Warnings()
    #expect(try encoded(c).count == 2)
    let folder = fixture.scratch.file("run/.validation_cache")
    let files = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
    #expect(files.count == 2)
    // One file is truncated, and one has the other's name.
    let path = "\(folder)/\(files[0])"
    let whole = try Data(contentsOf: URL(fileURLWithPath: path))
    try whole.prefix(whole.count - 8).write(to: URL(fileURLWithPath: path))
    #expect(try encoded(c, warnings).count == 1)
    #expect(warnings.all.count == 1 && warnings.all[0].contains(path))
    try FileManager.default.removeItem(atPath: path)
    try FileManager.default.copyItem(atPath: "\(folder)/\(files[1])", toPath: path)
    #expect(try encoded(c).count == 1)
    #expect(try encoded(c).count == 0)
  }
}
