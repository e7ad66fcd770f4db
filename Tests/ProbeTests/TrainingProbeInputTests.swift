import Foundation
import Probe
import TensorFiles
import Testing
import Torch

/// Inputs that the training components can't use are named.
@Suite struct TrainingProbeInputTests {
  /// The message of a recorded case with some inputs replaced; nil removes one.
  private func problem(
    _ name: String, _ changes: [String: Tensor?] = [:],
    _ change: (inout Probe.Options) -> Void = { _ in }
  ) throws -> String {
    let fixture = try #require(FixtureCase.all().first { $0.name == name })
    let inputs = try SafetensorsFile(path: #require(fixture.options.inputs))
    var tensors = try Dictionary(
      uniqueKeysWithValues: inputs.entries.keys.map { ($0, try inputs.tensor($0)) })
    for (key, tensor) in changes { tensors[key] = tensor }
    let path = NSTemporaryDirectory() + "probe-\(UUID().uuidString).safetensors"
    defer { try? FileManager.default.removeItem(atPath: path) }  // in the system's temporary folder
    try writeSafetensors(tensors.map { (key: $0, tensor: $1) }, to: path)
    var options = fixture.options
    options.inputs = path
    change(&options)
    do {
      _ = try Probe.run(fixture.component, options)
      return "(nothing was thrown)"
    } catch { return "\(error)" }
  }

  @Test func unchanged() throws {
    #expect(try problem("training-inputs/both_masks") == "(nothing was thrown)")
  }

  @Test func missingAndStray() throws {
    #expect(
      try problem("training-inputs/both_masks", ["video.mask": nil]).contains(
        "video.mask is missing"))
    #expect(
      try problem("training-inputs/both_masks", ["audio.noise": nil]).contains(
        "audio.noise is missing"))
    #expect(
      try problem("training-inputs/both_masks", ["video.sigma": nil]).contains(
        "video.sigma is missing"))
    let stray = try problem(
      "training-inputs/frozen_audio", ["audio.sigma": Tensor([Float(0.5), 0.5, 0.5])])
    #expect(stray.contains("unknown input audio.sigma"), "\(stray)")
    let none = try problem("training-inputs/audio_alone", ["audio.latents": nil])
    #expect(none.contains("none of the strategy's modalities has latents"), "\(none)")
  }

  @Test func wrongShapes() throws {
    let mask = try problem("training-inputs/both_masks", ["video.mask": .zeros([3, 3, 2, 3])])
    #expect(mask.contains("video.mask has shape [3, 3, 2, 3]") && mask.contains("W = 4"), "\(mask)")
    for tokens in [1, 23] {
      let noise = try problem(
        "training-inputs/both_masks", ["video.noise": .zeros([3, tokens, 5])])
      #expect(noise.contains("video.noise of a batch has shape [3, \(tokens), 5]"), "\(noise)")
      #expect(noise.contains("take [3, 24, 5]"), "\(noise)")
    }
    let draws = try problem("training-inputs/both_masks", ["condition_draws": .zeros([3, 3])])
    #expect(
      draws.contains("condition_draws: has 3 rows; the configuration has 2 conditions"), "\(draws)")
    let reference = try problem(
      "training-inputs/video_reference_in_space",
      ["video.reference.latents": .zeros([2, 5, 5, 2, 2])])
    #expect(reference.contains("must be smaller by the same integer factor"), "\(reference)")
    let fps = try problem("training-inputs/joint", ["video.fps": Tensor([Float(0), 1, 1])])
    #expect(fps.contains("video.fps: must be positive (begins with 0.0)"), "\(fps)")
    #expect(
      try problem("timestep-sampler/tokens_300", ["tokens": Tensor([0])]).contains(
        "tokens: must be positive (got 0)"))
  }

  @Test func options() throws {
    #expect(
      try problem("training-inputs/joint") { $0.config = nil }.contains("configuration: is missing")
    )
    #expect(try problem("training-inputs/joint") { $0.model = nil }.contains("model: is missing"))
    let run = "training-run/ltx23_restarts_audio"
    #expect(try problem(run) { $0.loras = [] }.contains("loras: must be exactly one"))
    #expect(try problem(run) { $0.loras += $0.loras }.contains("loras: must be exactly one"))
    let order = try problem(run, ["order": Tensor([0, 1, 2, 1, 0, 2, 2, 3])])
    #expect(order.contains("data.3."), "\(order)")
    let steps = try problem(run, ["order": Tensor([0, 1, 2])])
    #expect(
      steps.contains("condition_draws has shape [8, 1, 2]") && steps.contains("steps = 3"),
      "\(steps)")
    #expect(try problem(run, ["order": Tensor([0, 1, 2, 1, 0, 2, 2, -1])]).contains("data.-1."))
  }
}
