import Foundation
import LTX
import Media
import NN
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import Generation
@testable import Training

/// Samples against the official trainer's own runner: `Tests/Oracles/validation_latents.py`.
@Suite struct ValidationReferenceTests {
  /// The denoised latents, with full guidance in both modalities, from the same noise. Both sides
  /// run in float32. Two programs with different rounding are 3e-5 apart after three steps, so 3e-4
  /// of the latents' root mean square is allowed.
  @Test(arguments: [
    "text", "first_frame", "prefix", "reference", "audio_prefix", "audio_suffix", "audio_reference",
    "audio_to_video",
  ]) func latentsAreTheOfficialTrainers(_ name: String) throws {
    let file = try SafetensorsFile(
      path: URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path + "/Fixtures/validation-latents.safetensors")
    var fixture = try ValidationFixture()
    let pixels = try file.tensor("picture")
    try RGBFrame(
      bytes: pixels.to(.uint8).array(of: UInt8.self), width: pixels.size(1),
      height: pixels.size(0)
    ).writePNG(to: fixture.scratch.file("picture.png"))
    let samples = try (file.tensor("sound").to(.float32) / 32768).unbind(0).map {
      try $0.array(of: Float.self)
    }
    try WAVWriter.write(samples, sampleRate: 16000, to: fixture.scratch.file("sound.wav"))
    let (image, audio) = (fixture.scratch.file("picture.png"), fixture.scratch.file("sound.wav"))
    let condition: Condition<MediaFile>? =
      switch name {
      case "first_frame": .firstFrame(path: image)
      case "prefix": .prefix(path: image, frames: 1)
      case "reference":
        .reference(path: image, scale: ReferenceScale(space: 2, time: 2))
      case "audio_prefix": .audioPrefix(path: audio, seconds: 0.2)
      case "audio_suffix": .audioSuffix(path: audio, seconds: 0.2)
      case "audio_reference":
        .audioReference(path: audio)
      case "audio_to_video": .audio(path: audio)
      default: nil
      }
    var configuration = condition.map { fixture.with($0) } ?? fixture.configuration
    configuration.validation.inferenceSteps = 3
    configuration.validation.stgBlocks = [1, 28]
    fixture.configuration = configuration
    let sampler = try fixture.sampler()
    let plan = sampler.plans[0]
    var inputs = sampler.inputs[0]
    func contexts(_ prefix: String) throws -> TextContexts {
      TextContexts(try PerModality { try file.tensor("context.\(prefix)\($0)") })
    }
    inputs.contexts = [try contexts(""), try contexts("negative_")]
    let transformer = try Checkpoint(path: fixture.model.checkpoint).transformer(
      LoadPolicy(dtype: .float32))
    try withInference {
      let pipeline = GenerationPipeline(plan, sharing: SharedModels(transformer: transformer))
      var state = try pipeline.start(inputs)
      for sampling in plan.samplings {
        try pipeline.sample(sampling, &state) { _, _ in }
      }
      for (modality, ours) in [
        ("video", state.results[0].video), ("audio", state.results[0].audio),
      ] {
        let ours = try #require(ours)
        let reference = try file.tensor("\(name).\(modality)")
        try #require(ours.shape == reference.shape)
        let distance = try (ours - reference).square().mean().item().squareRoot()
        let size = try reference.square().mean().item().squareRoot()
        #expect(distance < 3e-4 * size, "\(modality): \(distance / size)")
      }
    }
  }
}
