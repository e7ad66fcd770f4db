import Foundation
import LTX
import NN
import TensorFiles
import TestSupport
import Testing
import Torch

/// The starting states of sampling, against ltx-core's conditions and noiser, and the results of
/// two of them (`Tests/Oracles/starting_states.py`).
@Suite struct StartingStateTests {
  private let file: SafetensorsFile
  private let video = VideoGrid(
    batch: 1, channels: 12, frames: 3, rows: 2, columns: 4, fps: 25, factors: .usual)
  private let audio = AudioGrid(batch: 1, channels: 3, bins: 16, frames: 17)

  init() throws {
    file = try SafetensorsFile(path: Fixtures.root + "/starting-states.safetensors")
  }

  private func given(_ name: String) throws -> Tensor { try file.tensor("given.\(name)") }

  /// A modality that starts from the case's noise.
  private func sampled(
    _ name: String, _ sequence: LatentSequence, noiseLevel: Double = 1, isFrozen: Bool = false,
    guidance: Guidance = Guidance()
  ) throws -> SampledModality {
    let kind = sequence.positions.size(1) == 3 ? "video" : "audio"
    return try SampledModality(
      noise: file.tensor("\(name).noise"), sequence: sequence,
      context: file.tensor("\(kind).context"),
      negativeContext: kind == "video" ? file.tensor("video.negative_context") : nil,
      guidance: guidance,
      noiseLevel: noiseLevel, isFrozen: isFrozen)
  }

  private func refining() throws -> SampledModality {
    try sampled(
      "refining",
      video.sequence(
        [
          .replace(latent: given("picture"), latentFrame: 0, strength: 0.8),
          .keyframe(latent: given("keyframe"), frame: 9, strength: 0.9),
          .reference(
            latent: given("reference"), scale: ReferenceScale(space: 2, time: 2),
            attention: .full([1, 4], 0.5)),
        ], start: given("initial")), noiseLevel: 0.909375)
  }

  private func refiningAudio() throws -> SampledModality {
    try sampled("refining_sound", audio.sequence(start: given("sound")), noiseLevel: 0.909375)
  }

  private func retake(guidance: Guidance = Guidance()) throws -> SampledModality {
    let kept = video.frames(from: 0.2, to: 0.33).map { $0 ? Float(0) : 1 }
    let mask = try Tensor(kept, shape: [1, 3, 1, 1]).expand([1, 3, 2, 4]).contiguous()
    return try sampled(
      "retake", video.sequence([.masked(latent: given("initial"), mask: mask, strength: 1)]),
      guidance: guidance)
  }

  private func retakeAudio() throws -> SampledModality {
    let kept = audio.frames(from: 0.2, to: 0.33).map { $0 ? Float(0) : 1 }
    return try sampled(
      "retake_sound",
      audio.sequence([
        .masked(latent: given("sound"), mask: Tensor(kept, shape: [1, 17]), strength: 1)
      ]))
  }

  private func frozenAudio() throws -> SampledModality {
    try sampled("frozen_sound", audio.sequence(start: given("sound")), isFrozen: true)
  }

  private func expect(_ tensor: Tensor?, _ name: String, within tolerance: Double = 1e-6) throws {
    let (tensor, wanted) = (try #require(tensor, "\(name)"), try file.tensor(name))
    #expect(tensor.shape == wanted.shape, "\(name)")
    let error = try (tensor - wanted).abs().amax().item() / wanted.abs().amax().item()
    #expect(error <= tolerance, "\(name): \(error)")
  }

  private func expect(_ sampled: SampledModality, _ name: String) throws {
    try expect(sampled.latent, "\(name).latent")
    try expect(sampled.sequence.positions, "\(name).positions")
    let mask = sampled.sequence.denoiseMask
    let wanted = try file.tensor("\(name).denoise_mask")
    #expect(
      try mask.shape == wanted.shape && (mask - wanted).abs().amax().item() <= 1e-6, "\(name)")
    // The clean latent of a token that starts as pure noise has no effect.
    let known = try 1 - wanted.unsqueeze(-1)
    let difference = try (sampled.sequence.clean - file.tensor("\(name).clean")) * known
    #expect(try difference.abs().amax().item() <= 1e-6, "\(name)")
    if file.entries["\(name).attention"] == nil {
      #expect(sampled.sequence.selfAttentionMask == nil, "\(name)")
    } else {
      try expect(sampled.sequence.selfAttentionMask, "\(name).attention")
    }
  }

  @Test func aRefinementStartsFromNoisedLatentsImagesKeyframesAndReferences() throws {
    try expect(refining(), "refining")
    try expect(refiningAudio(), "refining_sound")
  }

  @Test func aRetakeStartsFromNoiseInItsRangeAndFromTheLatentsAroundIt() throws {
    try expect(retake(), "retake")
    try expect(retakeAudio(), "retake_sound")
  }

  @Test func masksSuffixesAndFrozenAudioKeepTheirTokens() throws {
    try expect(
      sampled(
        "mask",
        video.sequence([.masked(latent: given("initial"), mask: given("mask"), strength: 0.7)])),
      "mask")
    try expect(
      sampled(
        "suffix", video.sequence([.replace(latent: given("suffix"), latentFrame: 1, strength: 1)])),
      "suffix")
    try expect(frozenAudio(), "frozen_sound")
  }

  @Test func aMaskAfterAKeyframeLeavesTheKeyframeAlone() throws {
    let mask = try given("mask")
    let keyframe = LatentCondition.keyframe(latent: try given("keyframe"), frame: 9, strength: 0.9)
    let masked = LatentCondition.masked(latent: try given("initial"), mask: mask, strength: 1)
    let (first, last) = (
      try video.sequence([keyframe, masked]), try video.sequence([masked, keyframe])
    )
    for (a, b) in [(first.clean, last.clean), (first.denoiseMask, last.denoiseMask)] {
      #expect(try a.shape == b.shape && (a - b).abs().amax().item() == 0)
    }
  }

  private func end(_ name: String, _ video: SampledModality, _ audio: SampledModality) throws {
    let transformer = try Checkpoint(path: Fixtures.model("ltx2_transformer"))
      .transformer(LoadPolicy(dtype: .float32))
    let sigmas: [Float] = try file.tensor("\(name).sigmas").array()
    let end = try withInference {
      try Sampler(transformer: transformer).sample(
        PerModality(video: video, audio: audio), sigmas: sigmas)
    }
    try expect(end.video?.latent, "\(name).video", within: 1e-4)
    try expect(end.audio?.latent, "\(name).audio", within: 1e-4)
  }

  @Test func aRefinementEndsWhereLtxPipelinesEnds() throws {
    try end("refined", refining(), refiningAudio())
  }

  @Test func aRetakeBesideFrozenAudioEndsWhereLtxPipelinesEnds() throws {
    var guidance = Guidance()
    (guidance.cfg, guidance.modality, guidance.rescale) = (3, 2, 0.7)
    try end("heard", retake(guidance: guidance), frozenAudio())
  }
}
