import Foundation
import Generation
import LTX
import LoRAFiles
import Media
import NN
import Support
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import Training

/// Samples that are generated during training.
@Suite struct ValidationSamplerTests {
  let fixture: ValidationFixture

  init() throws { fixture = try ValidationFixture() }

  // MARK: What is made

  enum Kind: String, CaseIterable, Sendable {
    case text, firstFrame, firstFrameOfVideo, prefix, suffix, spatialCrop, mask, reference,
      scaledReference
    case audioPrefix, audioSuffix, audioMask, audioReference, videoToAudio, audioToVideo
  }

  private func condition(_ kind: Kind) throws -> Condition<MediaFile>? {
    switch kind {
    case .text: nil
    case .firstFrame: .firstFrame(path: try fixture.image())
    case .firstFrameOfVideo: .firstFrame(path: try fixture.clip())
    case .prefix: .prefix(path: try fixture.clip(), frames: 9)
    case .suffix: .suffix(path: try fixture.clip(), frames: 8)
    case .spatialCrop:
      .crop(path: try fixture.clip(), region: PixelRegion(top: 0, left: 0, bottom: 64, right: 32))
    case .mask: .keep(path: try fixture.clip(), mask: try fixture.mask())
    case .reference:
      .reference(path: try fixture.clip(), scale: ReferenceScale(space: 1, time: 1))
    case .scaledReference:
      .reference(path: try fixture.clip(), scale: ReferenceScale(space: 2, time: 2), isShown: true)
    case .audioPrefix: .audioPrefix(path: try fixture.audio(), seconds: 0.2)
    case .audioSuffix: .audioSuffix(path: try fixture.audio(), seconds: 0.2)
    case .audioMask: .audioKeep(path: try fixture.audio(), mask: try fixture.audio("mask.wav"))
    case .audioReference:
      .audioReference(path: try fixture.audio())
    case .videoToAudio: .video(path: try fixture.clip())
    case .audioToVideo: .audio(path: try fixture.audio())
    }
  }

  /// Every condition gives a playable file with the requested size, length, rate and audio that
  /// differs from the one without the condition.
  @Test(arguments: Kind.allCases) func everyConditionMakesAFile(_ kind: Kind) throws {
    let warnings = Warnings()
    var configuration = try condition(kind).map { fixture.with($0) } ?? fixture.configuration
    if kind == .scaledReference {
      configuration.validation.videoDims = VideoDimensions(width: 128, height: 128, frames: 17)
    }
    let sampler = try fixture.sampler(configuration, warnings: warnings)
    let transformer = try fixture.transformer()
    let outputs = try sampler.run(transformer: transformer, autocast: nil, step: 100)
    #expect(warnings.all == [])
    let path = fixture.scratch.file("run/samples/step_000100_1.mp4")
    #expect(outputs == [ValidationOutput(sample: 0, path: path, prompt: "a red ball")])
    let (reader, frames) = try fixture.frames(path)
    let side = configuration.validation.videoDims.width
    #expect(reader.width == (kind == .scaledReference ? 2 * side : side))
    #expect((reader.height, frames.count, reader.frameRate.value) == (side, 17, 25))
    let audio = try AudioClip.read(path: path)
    #expect(abs(audio.duration - 17.0 / 25) < 0.05)
    #expect(audio.channels[0].contains { abs($0) > 1e-4 })

    configuration.validation.samples = [ValidationSample(prompt: "a red ball")]
    configuration.outputDir = fixture.scratch.file("plain")
    let plain = try fixture.sampler(configuration).run(
      transformer: transformer, autocast: nil, step: 100)
    let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
    #expect((try Data(contentsOf: URL(fileURLWithPath: plain[0].path)) == bytes) == (kind == .text))
  }

  /// Adapters with random factors for the trainable layers of the fixture.
  private func lora(metadata: [String: String] = ["format": "pt"]) throws -> String {
    let shapes = try Checkpoint(path: fixture.model.checkpoint).source.entries
    let generator = try Generator(seed: 9)
    var tensors: [(key: String, tensor: Tensor)] = []
    for (key, entry) in shapes.sorted(by: { $0.key < $1.key })
    where key.hasPrefix("model.diffusion_model.") {
      guard key.hasSuffix("to_q.weight") || key.hasSuffix("to_v.weight"), !key.contains("connector")
      else {
        continue
      }
      let path =
        "diffusion_model." + key.dropFirst("model.diffusion_model.".count).dropLast(".weight".count)
      tensors.append(("\(path).lora_A.weight", try generator.normal([2, entry.shape[1]])))
      tensors.append(("\(path).lora_B.weight", try generator.normal([entry.shape[0], 2])))
    }
    let lora = fixture.scratch.file("lora.safetensors")
    try writeSafetensors(tensors, metadata: metadata, to: lora)
    return lora
  }

  /// A run in float32 writes the same bytes as `ltx generate` with the saved adapters.
  private func bytes(
    _ validation: Condition<MediaFile>?, _ generation: Condition<MediaFile>?, side: Int = 64,
    lora: String
  ) throws -> (sample: Data, generated: Data) {
    var configuration = validation.map { fixture.with($0) } ?? fixture.configuration
    configuration.validation.videoDims = VideoDimensions(width: side, height: side, frames: 17)
    configuration.validation.samples[0].seed = 11
    configuration.validation.negativePrompt = "grass"
    let transformer = try fixture.transformer(continuing: LoRAFile(path: lora))
    let output = try fixture.sampler(configuration).run(
      transformer: transformer, autocast: nil, step: 0)[0]

    var request = GenerationRequest(prompts: ["a red ball"])
    (request.width, request.height, request.frames, request.frameRate, request.steps) = (
      side, side, 17, 25, 2
    )
    (request.seed, request.negativePrompt) = (11, "grass")
    // The official default of block 28, which the tiny model does not have, perturbs nothing.
    (request.guidance.video.cfg, request.guidance.video.stg, request.guidance.video.rescale) = (
      3, 0, 0.7
    )
    (request.guidance.audio.cfg, request.guidance.audio.stg, request.guidance.audio.rescale) = (
      7, 0, 0.7
    )
    (request.guidance.video.modality, request.guidance.audio.modality) = (3, 3)
    request.conditions = generation.map { [$0] } ?? []
    let models = GenerationModels(
      ModelFiles(unified: fixture.model.checkpoint, textEncoder: fixture.model.textEncoder),
      loras: [.init(path: lora)])
    let generated = fixture.scratch.file("generated.mp4")
    try GenerationPipeline(GenerationPlan(request, models: models, output: generated)).run()
    return (
      try Data(contentsOf: URL(fileURLWithPath: output.path)),
      try Data(contentsOf: URL(fileURLWithPath: generated))
    )
  }

  /// The stages are the same: a run in float32 writes the same bytes as `ltx generate` with the
  /// saved adapters.
  @Test func aSampleIsWhatGenerateMakes() throws {
    let lora = try lora()
    let made = try bytes(nil, nil, lora: lora)
    #expect(made.sample == made.generated)
    // The adapters have an effect.
    let file = try SafetensorsFile(path: lora)
    let zeros = try file.entries.keys.sorted().map { (key: $0, tensor: try file.tensor($0) * 0) }
    try writeSafetensors(zeros, metadata: ["format": "pt"], to: lora)
    #expect(try bytes(nil, nil, lora: lora).generated != made.generated)
  }

  /// Files of other sizes than the sample, larger and smaller, wider and taller, go through one
  /// code path.
  @Test(arguments: [(192, 128), (150, 200), (48, 40), (64, 64)])
  func aSampleWithFilesIsWhatGenerateMakes(size: (Int, Int)) throws {
    let lora = try lora(metadata: [
      "format": "pt", "reference_downscale_factor": "2", "reference_temporal_scale_factor": "2",
    ])
    // Fine detail that distinguishes filters.
    let writer = try VideoWriter(
      path: fixture.scratch.file("fine.mp4"), width: size.0, height: size.1,
      frameRate: Rational(25),
      quality: .init(crf: 10, preset: "superfast"))
    var first: RGBFrame?
    for index in 0..<17 {
      var bytes: [UInt8] = []
      for y in 0..<size.1 {
        for x in 0..<size.0 {
          bytes += [UInt8](repeating: (x + y + index) % 3 == 0 ? 230 : 20, count: 3)
        }
      }
      let frame = RGBFrame(bytes: bytes, width: size.0, height: size.1)
      first = first ?? frame
      try writer.append(frame)
    }
    try writer.finish()
    let (clip, image) = (fixture.scratch.file("fine.mp4"), fixture.scratch.file("fine.png"))
    try first?.writePNG(to: image)
    let (short, long) = (
      try fixture.audio("short.wav", seconds: 0.3), try fixture.audio("long.wav", seconds: 2)
    )
    let pairs: [(Condition<MediaFile>, Condition<MediaFile>, Int)] = [
      (.firstFrame(path: image), .image(path: image, crf: 0), 64),
      (.prefix(path: clip, frames: 9), .prefix(path: clip, frames: 9), 64),
      (.suffix(path: clip, frames: 8), .suffix(path: clip, frames: 8), 64),
      (
        .reference(path: clip, scale: ReferenceScale(space: 2, time: 2)),
        .reference(path: clip), 128
      ),
      (.video(path: clip), .video(path: clip), 64),
      (.audio(path: short), .audio(path: short), 64),
      (.audio(path: long), .audio(path: long), 64),
    ]
    for (validation, generation, side) in pairs {
      let made = try bytes(validation, generation, side: side, lora: lora)
      #expect(made.sample == made.generated, "\(validation)")
    }
  }

  @Test func filesAreNamedAsTheOfficialTrainerNamesThem() throws {
    var configuration = fixture.configuration
    configuration.validation.inferenceSteps = 1
    configuration.validation.samples = [
      ValidationSample(prompt: "one", videoDims: VideoDimensions(width: 96, height: 64, frames: 1)),
      ValidationSample(prompt: "two", seed: 1), ValidationSample(prompt: "two", seed: 2),
    ]
    let sampler = try fixture.sampler(configuration)
    let outputs = try sampler.run(
      transformer: fixture.transformer(), autocast: nil, step: 1_234_567)
    #expect(
      outputs.map { ($0.path as NSString).lastPathComponent } == [
        "step_1234567_1.png", "step_1234567_2.mp4", "step_1234567_3.mp4",
      ])
    #expect(try fixture.frames(outputs[0].path).reader.width == 96)
    let media = try outputs.map { try $0.media() }
    #expect(media.map(\.name) == ["sample_1", "sample_2", "sample_3"])
    #expect(media.map(\.kind.rawValue) == ["image", "video", "video"])
    let files = try outputs.dropFirst().map { try Data(contentsOf: URL(fileURLWithPath: $0.path)) }
    #expect(files[0] != files[1], "a sample's own seed has no effect")

    configuration.validation.generateVideo = false
    configuration.validation.samples.removeFirst()
    let audioOnly = try fixture.sampler(configuration)
    #expect(audioOnly.modalities == .audio)
    let audio = try audioOnly.run(transformer: fixture.transformer(.audio), autocast: nil, step: 7)[
      0]
    #expect(audio.path.hasSuffix("samples/step_000007_1.wav"))
    #expect(abs(try AudioClip.read(path: audio.path).duration - 17.0 / 25) < 0.05)
  }

  /// The reference is on the left; its few frames are repeated for the length of its latents.
  @Test func aReferenceIsShownBesideTheResult() throws {
    let clip = try fixture.clip()
    let configuration = fixture.with(
      .reference(path: clip, scale: ReferenceScale(space: 1, time: 4), isShown: true))
    let output = try fixture.sampler(configuration).run(
      transformer: fixture.transformer(), autocast: nil, step: 0)[0]
    let (reader, frames) = try fixture.frames(output.path)
    #expect((reader.width, reader.height, frames.count) == (128, 64, 17))
    for (index, frame) in frames.enumerated() {
      let source = index == 0 ? 0 : 1 + (index - 1) / 4 * 4
      let expected = ValidationFixture.frame(source)
      // The middle of the gray area, away from the square and the edges, after two compressions.
      let gray = Int(frame.bytes[3 * (128 * 40 + 32)])
      #expect(abs(gray - Int(expected.bytes[3 * (64 * 40 + 32)])) <= 6, "frame \(index)")
    }
  }

  // MARK: Unchanged state

  @Test func trainingIsNotTouched() throws {
    let transformer = try fixture.transformer()
    let before = try transformer.parameters.map { try $0.tensor.detach().clone() }
    let step = TrainingStep(
      transformer: transformer,
      plan: .init(blocks: transformer.configuration.blocks, activations: .keep))
    let generator = try Generator(seed: 1)
    let example = try Self.example(transformer.configuration, generator)
    let gradients = try step(example).gradients
    let next = try Generator(seed: 1).normal([4]).array(of: Float.self)

    _ = try fixture.sampler().run(transformer: transformer, autocast: nil, step: 1)

    for (parameter, old) in zip(transformer.parameters, before) {
      #expect(parameter.tensor.requiresGrad)
      #expect(try (parameter.tensor.detach() - old).abs().amax().item() == 0, "\(parameter.key)")
    }
    let again = try step(example).gradients
    #expect(Set(again.keys) == Set(gradients.keys))
    for (key, gradient) in gradients {
      let other = try #require(again[key])
      #expect(try (gradient - other).abs().amax().item() == 0, "\(key)")
    }
    #expect(try Generator(seed: 1).normal([4]).array(of: Float.self) == next)
  }

  private static func example(_ c: TransformerConfiguration, _ generator: Generator) throws
    -> TrainingExample
  {
    let tokens = 4
    let modality = ModalityInput(
      latent: try generator.normal([1, tokens, c.sizes.video.inputs]),
      timesteps: try .full([1, tokens], 0.5),
      sigma: try .full([1], 0.5),
      positions: try VideoTokens.positions(
        batch: 1, frames: 1, rows: 2, columns: 2, fps: 24, factors: .usual),
      context: try generator.normal([1, 8, c.captionChannels ?? c.sizes.video.contextWidth]))
    return TrainingExample(
      video: .init(
        input: modality, target: try generator.normal([1, tokens, c.sizes.video.outputs]),
        lossMask: try .ones([1, tokens])), audio: nil)
  }

  @Test func mixedPrecisionIsThatOfTraining() throws {
    let sampler = try fixture.sampler(dtype: .bfloat16)
    let transformer = try fixture.transformer(dtype: .bfloat16)
    #expect(transformer.parameters.allSatisfy { $0.tensor.dtype == .float32 })
    let warnings = Warnings()
    let output = try sampler.run(transformer: transformer, autocast: .bfloat16, step: 0)
    #expect(output.count == 1 && warnings.all.isEmpty)
    #expect(try fixture.frames(output[0].path).frames.count == 17)
  }

  // MARK: What goes wrong on the way

  @Test func aSampleThatRunsOutOfMemoryIsSkipped() throws {
    var configuration = fixture.configuration
    configuration.validation.samples = (1...3).map { ValidationSample(prompt: "ball", seed: $0) }
    let warnings = Warnings()
    let sampler = try fixture.sampler(configuration, warnings: warnings)
    let outputs = try sampler.run(transformer: fixture.transformer(), autocast: nil, step: 20) {
      progress in
      if case .decodeVideo = progress.stage.stage, progress.position == 1, progress.stage.done == 3
      {
        throw TorchError(.outOfMemory, operation: "conv3d", message: "CUDA out of memory")
      }
    }
    #expect(outputs.map(\.sample) == [0, 2])
    #expect(warnings.all.count == 1)
    #expect(warnings.all[0].contains("step 20: memory ran out for validation sample 2"))
    #expect(
      fixture.scratch.files(below: "run/samples") == ["step_000020_1.mp4", "step_000020_3.mp4"])
  }

  /// A real failure of the allocator: noise of 10^15 values.
  @Test func failedAllocationsAreReportedAndTrainingContinues() throws {
    var configuration = fixture.configuration
    configuration.validation.frameRate = 1000
    configuration.validation.samples = [
      ValidationSample(
        prompt: "ball", videoDims: VideoDimensions(width: 16384, height: 16384, frames: 999_993)),
      ValidationSample(prompt: "ball"),
    ]
    configuration.validation.generateAudio = false
    let warnings = Warnings()
    let sampler = try fixture.sampler(configuration, warnings: warnings)
    let outputs = try sampler.run(transformer: fixture.transformer(.video), autocast: nil, step: 1)
    #expect(outputs.map(\.sample) == [1])
    #expect(warnings.all.count == 1)
    #expect(warnings.all[0].contains("memory ran out for validation sample 1"))
  }

  @Test func otherFailuresAreReportedOrThrownOnRequest() throws {
    let warnings = Warnings()
    let sampler = try fixture.sampler(warnings: warnings)
    let transformer = try fixture.transformer()
    let samples = fixture.scratch.file("run/samples")
    try FileManager.default.removeItem(atPath: samples)
    #expect(try sampler.run(transformer: transformer, autocast: nil, step: 1) == [])
    #expect(warnings.all.count == 1)
    #expect(
      warnings.all[0].contains("validation sample 1 failed") && warnings.all[0].contains(samples))
    #expect(throws: (any Error).self) {
      try sampler.run(transformer: transformer, autocast: nil, step: 1, endsWithFailure: true)
    }
  }

  @Test func aStopLeavesNoHalfFile() throws {
    let sampler = try fixture.sampler()
    var asked = 0
    #expect(throws: CancellationError.self) {
      try sampler.run(
        transformer: fixture.transformer(), autocast: nil, step: 1,
        isStopped: {
          asked += 1
          return asked > 8
        })
    }
    #expect(fixture.scratch.files(below: "run/samples") == [])
  }

  @Test func aTransformerWithoutAStreamIsRefused() throws {
    let sampler = try fixture.sampler()
    #expect(sampler.modalities == .both)
    let error = #expect(throws: Support.Issue.self) {
      try sampler.run(transformer: fixture.transformer(.video), autocast: nil, step: 0)
    }
    #expect(error?.problem.contains("video") == true)
  }

  // MARK: When and by whom

  @Test func samplesAreDueAtTheStartAndAtEveryInterval() throws {
    var configuration = fixture.configuration
    configuration.validation.interval = 50
    #expect(try (0...150).filter(fixture.sampler(configuration).isDue) == [0, 50, 100, 150])
    configuration.validation.skipInitialValidation = true
    #expect(try (0...60).filter(fixture.sampler(configuration).isDue) == [50])
    configuration.validation.interval = nil
    #expect(try !fixture.sampler(configuration).isDue(at: 0))
    configuration.validation = .init()
    let none = try fixture.sampler(configuration)
    #expect(!none.isDue(at: 0) && none.sampleCount == 0 && none.modalities == nil)
  }

  @Test func ranksShareTheWork() throws {
    func share(_ rank: Int, of size: Int, together: Bool) -> [ValidationWork] {
      ValidationWork.share(of: 3, WorkShare(index: rank, count: size), sharesModel: together)
    }
    #expect(share(0, of: 2, together: false) == [.init(sample: 0), .init(sample: 2)])
    #expect(share(1, of: 2, together: false) == [.init(sample: 1)])
    #expect(
      share(1, of: 2, together: true) == [.init(sample: 1), .init(sample: 1, isSaved: false)])
    #expect(share(3, of: 4, together: true) == [.init(sample: 0, isSaved: false)])
    #expect(share(3, of: 4, together: false) == [])
    #expect(ValidationWork.share(of: 0, .whole) == [])
    // The work is not saved: the model is run, but nothing is written.
    var steps = 0
    let outputs = try fixture.sampler().run(
      transformer: fixture.transformer(), autocast: nil, step: 1,
      work: [.init(sample: 0, isSaved: false)]
    ) { progress in if case .sample = progress.stage.stage, progress.stage.done > 0 { steps += 1 } }
    #expect(outputs == [] && steps == 2)
    #expect(fixture.scratch.files(below: "run/samples") == [])
  }
}
