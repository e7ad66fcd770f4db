import Foundation
import LTX
import Media
import Support
import Testing
import Torch

@testable import Generation

/// The stages of each recipe, audio, and several prompts at once.
@Suite struct RecipeTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func twoStages() throws -> GenerationModels {
    var models = try scratch.models()
    models.upsampler = try TinyFiles.files.get().spatialUpsampler
    models.distilledLoRA = try TinyFiles.files.get().distilledLoRA
    models.distilledStrength = 0.5
    return models
  }

  private func titles(_ plan: GenerationPlan) -> [String] { plan.stages.map(\.title) }

  private func samplings(_ plan: GenerationPlan) -> [GenerationPlan.Sampling] { plan.samplings }

  private func error(_ request: GenerationRequest, _ models: GenerationModels) -> Support.Issue? {
    #expect(throws: Support.Issue.self) {
      try GenerationPlan(request, models: models, output: scratch.path("out.mp4"))
    }
  }

  @Test func twoStagesMakeASmallVideoFirst() throws {
    var request = scratch.request()
    (request.width, request.height, request.hasAudio) = (128, 128, true)
    let plan = try GenerationPlan(request, models: twoStages(), output: scratch.path("out.mp4"))
    #expect(
      titles(plan) == [
        "Encoding the prompts", "Sampling", "Upsampling", "Refining", "Decoding audio",
        "Decoding frames",
      ])
    let samplings = samplings(plan)
    #expect(samplings.map { $0.video?.columns } == [2, 4])
    #expect(samplings[1].sigmas == NoiseSchedule.distilledSecondStage)
    #expect(samplings[1].guidance.video.cfg == 1)
    #expect(samplings.map { $0.loras.map(\.strength) } == [[], [0.5]])
    // The audio of the refining stage is not kept, unless the model is a distilled one.
    #expect(samplings.map(\.keepsAudio) == [false, false])
    try GenerationPipeline(plan).run()
    let (reader, frames) = try scratch.frames()
    #expect((reader.width, reader.height, frames.count) == (128, 128, 9))
    #expect(reader.hasAudio)

    // Upstream's strengths for the second-order sampler.
    var models = try twoStages()
    models.distilledStrength = nil
    request.method = .res2s
    let second = try GenerationPlan(request, models: models, output: scratch.path("out.mp4"))
    #expect(self.samplings(second).map { $0.loras.map(\.strength) } == [[0.25], [0.5]])
    request.method = .euler

    request.width = 96
    #expect(
      error(request, try twoStages())?.description.contains(
        "multiple of 64 in two stages (got 96). Use 128 or more.") == true)
    models.distilledLoRA = nil
    #expect(error(request, models)?.place == ["upsampler"])
    models = try twoStages()
    models.upsampler = nil
    #expect(error(request, models)?.place == ["distilledLoRA"])
    models.upsampler = try TinyFiles.files.get().temporalUpsampler
    #expect(error(request, models)?.description.contains("spatial") == true)
    models.upsampler = try TinyFiles.files.get().checkpoint
    #expect(error(request, models)?.place == ["upsampler"])
  }

  @Test func aDistilledModelHasFixedLevelsAndNoGuidance() throws {
    var request = scratch.request()
    request.isDistilled = true
    request.steps = nil
    let plan = try scratch.plan(request)
    #expect(samplings(plan).map(\.sigmas) == [NoiseSchedule.distilled])
    #expect(plan.inputs.prompts == request.prompts)
    var models = try twoStages()
    models.distilledLoRA = nil
    (request.width, request.height, request.hasAudio) = (128, 128, true)
    let two = samplings(
      try GenerationPlan(request, models: models, output: scratch.path("out.mp4")))
    #expect(two.map(\.keepsAudio) == [true, true])
    request.steps = 4
    #expect(error(request, models)?.subject == ["steps"])
    request.steps = nil
    request.guidance.audio.cfg = 2
    #expect(error(request, models)?.place == ["isDistilled"])
  }

  @Test func defaultsAreTheGenerations() {
    func defaults(
      _ version: String?, vae: String? = nil, _ method: Sampler.Method = .euler, two: Bool = false
    ) -> GenerationDefaults {
      GenerationDefaults(
        version: version.flatMap(ModelVersion.init),
        videoVAEVersion: (vae ?? version).flatMap(ModelVersion.init), blocks: 48, method: method,
        isTwoStage: two, isDistilled: false)
    }
    #expect(
      (defaults(nil).steps, defaults("2.3.0").steps, defaults("2.3.0", .res2s).steps) == (
        40, 30, 15
      ))
    #expect(defaults(nil).guidance.video.stgBlocks == [29])
    #expect(defaults("2.3.0").guidance.audio.stgBlocks == [28])
    #expect((defaults("2.3.0").imageCRF, defaults("2.4.0").imageCRF) == (33, 18))
    // Compression of images belongs to the video VAE, the sampler to the transformer.
    let mixed = defaults("2.5-rc3", vae: "2.3.0")
    #expect((mixed.imageCRF, mixed.isAncestral) == (33, true))
    let other = defaults("2.4", vae: "2.5.0")
    #expect((other.imageCRF, other.isAncestral) == (18, false))
    let both = defaults(nil)
    #expect(
      (
        both.guidance.video.cfg, both.guidance.audio.cfg, both.guidance.video.modality,
        both.guidance.video.rescale
      ) == (3, 7, 3, 0.7))
    #expect(
      (defaults(nil).width, defaults(nil, two: true).width, defaults(nil, .res2s, two: true).width)
        == (
          768, 1536, 1920
        ))
    #expect(
      (defaults(nil, .res2s).guidance.video.stg, defaults(nil, .res2s).guidance.audio.rescale) == (
        0, 1
      ))
  }

  @Test func audioIsAsLongAsTheVideo() throws {
    var request = scratch.request()
    (request.hasAudio, request.frames, request.steps) = (true, 17, 1)
    _ = try scratch.generate(request)
    let clip = try AudioClip.read(path: scratch.path("out.mp4"))
    #expect(abs(clip.duration - 17.0 / 25) < 0.03)
    #expect(clip.channels[0].contains { abs($0) > 1e-4 }, "the audio is silent")
    // Both modalities attend to each other: a conditioned image changes the audio.
    request.conditions = [.image(path: try scratch.image())]
    _ = try scratch.generate(request)
    #expect(try AudioClip.read(path: scratch.path("out.mp4")) != clip)
  }

  @Test func audioIsLimitedToFullScale() throws {
    let loud = (0..<8000).map { Float(4 * sin(Double($0) * 0.01)) }
    let sink = try OutputSink(
      path: scratch.path("loud.mp4"), kind: .video,
      size: .init(width: 64, height: 64, frames: 12, frameRate: Rational(24)),
      audio: AudioClip(left: loud, right: loud, sampleRate: 16000))
    let gray = RGBFrame(bytes: [UInt8](repeating: 99, count: 3 * 64 * 64), width: 64, height: 64)
    for _ in 0..<12 { try sink.append(gray) }
    try sink.finish()
    let peak = try AudioClip.read(path: scratch.path("loud.mp4")).channels[0].reduce(0) {
      max($0, abs($1))
    }
    #expect(peak > 0.9 && peak < 1.3, "\(peak)")
  }

  @Test func aWAVIsAudioAlone() throws {
    var request = scratch.request()
    (request.hasAudio, request.frames, request.steps) = (true, 25, 1)
    let plan = try scratch.plan(request, output: "out.wav")
    #expect(
      titles(plan) == ["Encoding the prompts", "Sampling", "Decoding audio", "Writing audio"])
    #expect(samplings(plan)[0].video == nil)
    #expect(samplings(plan)[0].guidance.audio.modality == 1)
    try GenerationPipeline(plan).run()
    let clip = try AudioClip.read(path: scratch.path("out.wav"))
    // 25 latent frames give 4 * 25 - 3 spectrogram frames of 10 ms.
    #expect(abs(clip.duration - 0.97) < 0.011)
  }

  @Test func conditionsThatLeaveNothingToGenerateAreRefused() throws {
    func option(_ conditions: Condition<MediaFile>..., output: String) throws -> [Support.Issue
      .PathComponent]?
    {
      var request = scratch.request()
      (request.conditions, request.hasAudio) = (conditions, true)
      return #expect(throws: Support.Issue.self) { try scratch.plan(request, output: output) }?
        .place
    }
    let (audio, image) = (try tone(), try scratch.image())
    #expect(try option(.audio(path: audio), output: "out.wav") == ["conditions", 0])
    #expect(
      try option(.audio(path: audio), .video(path: image), output: "out.mp4") == [
        "conditions", 0,
      ])
    #expect(try option(.image(path: image), output: "out.wav") == ["conditions", 0])
    var models = try scratch.models()
    models.upsampler = try TinyFiles.files.get().spatialUpsampler
    let upsampled = #expect(throws: Support.Issue.self) {
      try GenerationPlan(scratch.request(), models: models, output: scratch.path("out.wav"))
    }
    #expect(upsampled?.place == ["upsampler"])
  }

  /// A tone of 440 Hz.
  private func tone(_ name: String = "tone.wav", seconds: Double = 1) throws -> String {
    let samples = (0..<Int(seconds * 32000)).map {
      Float(0.5 * sin(2 * Double.pi * 440 * Double($0) / 32000))
    }
    try WAVWriter.write([samples, samples], sampleRate: 32000, to: scratch.path(name))
    return scratch.path(name)
  }

  @Test func aGivenAudioIsTheResultsAndGuidesTheVideo() throws {
    var request = scratch.request()
    (request.hasAudio, request.steps) = (true, 1)
    let plain = try scratch.generate(request)
    request.conditions = [.audio(path: try tone(), start: 0.25)]
    let plan = try scratch.plan(request)
    #expect(
      titles(plan) == ["Encoding the prompts", "Encoding audio", "Sampling", "Decoding frames"])
    #expect(samplings(plan)[0].guidance.audio.cfg == 1)
    #expect(try scratch.generate(request) != plain)
    let clip = try AudioClip.read(path: scratch.path("out.mp4"))
    #expect(clip.sampleRate == 32000)
    let crossings = zip(clip.channels[0], clip.channels[0].dropFirst()).filter { $0 < 0 && $1 >= 0 }
      .count
    #expect(abs(Double(crossings) / clip.duration - 440) < 25)
    // The video attended to it: other audio gives another video.
    let frames = try scratch.frames().frames
    request.conditions = []
    _ = try scratch.generate(request)
    #expect(try scratch.frames().frames != frames)

    // It replaces the audio of an edited video.
    request.frames = nil
    request.conditions = [
      .retake(path: scratch.path("out.mp4"), from: 0, to: 0.2), .audio(path: try tone()),
    ]
    let edited = try scratch.plan(request, output: "edited.mp4")
    #expect(
      titles(edited).filter { $0 == "Encoding audio" || $0 == "Decoding audio" } == [
        "Encoding audio"
      ])
    #expect(edited.inputs.audio.count == 1)
    request.frames = 9

    request.conditions = [.audio(path: try tone(), start: 2)]
    #expect(error(request, try scratch.models())?.description.contains("1.0 seconds (got ") == true)
    request.conditions = [.audio(path: try scratch.image())]
    #expect(error(request, try scratch.models())?.place == ["conditions", 0])
  }

  @Test func aGivenVideoIsTheResultsAndGuidesTheAudio() throws {
    var request = scratch.request()
    let source = scratch.path("source.mp4")
    let writer = try VideoWriter(path: source, width: 96, height: 64, frameRate: Rational(25))
    for index in 0..<9 {
      var bytes: [UInt8] = []
      for pixel in 0..<(96 * 64) {
        bytes += [UInt8(pixel % 96 + 10 * index), UInt8(pixel / 96 * 3), 60]
      }
      try writer.append(RGBFrame(bytes: bytes, width: 96, height: 64))
    }
    try writer.finish()
    let wanted = try scratch.frames("source.mp4").frames
    (request.conditions, request.steps) = ([.video(path: source)], 1)
    (request.width, request.height, request.frames, request.frameRate) = (nil, nil, nil, nil)
    let plan = try scratch.plan(request)
    #expect(
      titles(plan) == [
        "Encoding the prompts", "Encoding images and clips", "Sampling", "Decoding audio",
        "Writing frames",
      ])
    #expect(plan.size.frames == 9)
    try GenerationPipeline(plan).run()
    let (reader, frames) = try scratch.frames()
    #expect(reader.hasAudio)
    #expect(frames.count == wanted.count)
    for (frame, original) in zip(frames, wanted) {
      let distance = zip(frame.bytes, original.bytes).reduce(0) { $0 + abs(Int($1.0) - Int($1.1)) }
      #expect(Double(distance) / Double(frame.bytes.count) < 3)
    }
  }

  @Test func aPromptAmongOthersGivesWhatItGivesAlone() throws {
    var request = scratch.request()
    request.steps = 1
    request.prompts = ["a red ball", "a submarine", "a house on a hill"]
    let plan = try scratch.plan(request)
    #expect(plan.outputs == (1...3).map { scratch.path("out-\($0).mp4") })
    var loads = 0
    try GenerationPipeline(plan).run { if $0.done == 0 { loads += 1 } }
    #expect(loads == plan.stages.count)
    request.prompts = ["a submarine"]
    let alone = try scratch.generate(request)
    #expect(try Data(contentsOf: URL(fileURLWithPath: scratch.path("out-2.mp4"))) == alone)
    #expect(try OutputKind.paths("a.b/c.png", count: 10).last == "a.b/c-10.png")
    #expect(try OutputKind.paths("a.b/c.png", count: 10).first == "a.b/c-01.png")
  }

  /// The audio of a video is kept when only its frames are edited.
  @Test func aMaskLeavesTheAudioAlone() throws {
    let samples = (0..<9600).map { Float(0.5 * sin(2 * Double.pi * 500 * Double($0) / 24000)) }
    let writer = try VideoWriter(
      path: scratch.path("source.mp4"), width: 96, height: 64, frameRate: Rational(25),
      audio: .init(sampleRate: 24000, channelCount: 2))
    for _ in 0..<9 {
      try writer.append(
        RGBFrame(bytes: [UInt8](repeating: 90, count: 3 * 96 * 64), width: 96, height: 64))
    }
    try writer.append(audio: [samples, samples])
    try writer.finish()
    var request = scratch.request()
    (request.hasAudio, request.steps) = (true, 1)
    request.conditions = [.inpaint(path: scratch.path("source.mp4"), mask: try scratch.image())]
    let plan = try scratch.plan(request)
    #expect(
      titles(plan) == [
        "Encoding the prompts", "Encoding images and clips", "Encoding audio", "Sampling",
        "Decoding frames",
      ])
    try GenerationPipeline(plan).run()
    let clip = try AudioClip.read(path: scratch.path("out.mp4"))
    let crossings = zip(clip.channels[0], clip.channels[0].dropFirst()).filter { $0 < 0 && $1 >= 0 }
      .count
    #expect(abs(Double(crossings) / clip.duration - 500) < 30)
  }

  /// Rounding to bfloat16 moves a fused weight by up to a 256th, and with it the video a little.
  @Test func fusedLoRAsGiveNearlyTheSame() throws {
    var models = try scratch.models([.init(path: try scratch.lora(), strength: 0.5)])
    func frames() throws -> [UInt8] {
      try GenerationPipeline(
        GenerationPlan(scratch.request(), models: models, output: scratch.path("out.mp4"))
      ).run()
      return try scratch.frames().frames.flatMap(\.bytes)
    }
    let separate = try frames()
    models.fusesLoRAs = true
    let fused = try frames()
    models.loras = []
    let without = try frames()
    func distance(_ a: [UInt8], _ b: [UInt8]) -> Double {
      zip(a, b).reduce(0) { $0 + abs(Double($1.0) - Double($1.1)) } / Double(a.count)
    }
    #expect(fused != separate)
    #expect(distance(fused, separate) < 0.25 * distance(fused, without))
  }

  @Test func theSecondOrderSamplerAndEightBitsRun() throws {
    var request = scratch.request()
    let euler = try scratch.generate(request)
    request.method = .res2s
    request.guidance.video.stg = 1
    let first = try scratch.generate(request)
    #expect(first != euler)
    #expect(try scratch.generate(request) == first)
    var models = try scratch.models()
    models.textEncoder8bit = true
    try GenerationPipeline(GenerationPlan(request, models: models, output: scratch.path("out.mp4")))
      .run()
    #expect(try Data(contentsOf: URL(fileURLWithPath: scratch.path("out.mp4"))) != first)
  }
}
