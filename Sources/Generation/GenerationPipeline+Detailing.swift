// B batch, C latent channels, F H W latent frames, rows, columns.

import LTX
import Torch

extension GenerationPipeline {
  /// The conditions of the detailing recipe's second stage: the keyframes of the first stage,
  /// upsampled, and its video as the reference of the IC-LoRA.
  func detailConditions(_ result: Result, _ sampling: GenerationPlan.Sampling) throws
    -> [LatentCondition]
  {
    guard let detailing = plan.detailing, sampling.refines else { return [] }
    var conditions: [LatentCondition] = []
    if !sampling.keyframes.isEmpty {
      let stills = try Tensor.cat(sampling.keyframes.compactMap { result.keyframes[$0] }, 2)
      conditions.append(
        .generatedKeyframes(frames: sampling.keyframes, start: try stills.to(.cpu, .float32)))
    }
    if detailing.lora != nil, let reference = result.firstStage {
      conditions.append(
        .reference(
          latent: try reference.to(.cpu, .float32), scale: detailing.referenceScale))
    }
    return conditions
  }

  /// Doubles the frame rate of all results.
  func addFrames(
    _ round: DetailingPlan.Round, _ state: inout State, _ advance: Advance
  ) throws {
    let sampling = round.sampling
    guard let path = sampling.upsampler, let full = sampling.video else {
      preconditionFailure("a round without an upsampler")
    }
    let steps = sampling.sigmas.count - 1
    let total = steps * round.windows.count * state.results.count
    try advance(0, total)
    try upsample(path, &state) { _, _ in }
    var sampler = Sampler(transformer: try transformer(of: sampling))
    for index in state.results.indices {
      let result = state.results[index]
      guard let video = result.video else { preconditionFailure("no video to refine") }
      var keyframes: [Int: Tensor] = [:]
      for (frame, latent) in result.keyframes { keyframes[2 * frame] = latent }
      let given = keyframes
      var latents: [Tensor] = []
      for (number, window) in round.windows.enumerated() {
        let range = window.latents(full.factors)
        let part = try video.narrow(2, range.lowerBound, range.count).to(.cpu, .float32)
        var grid = full
        grid.frames = range.count
        var conditions = images(
          state.inputs.videoConditions[1] ?? [], in: window, scale: round.frameScale)
        for frame in window.known {
          guard let latent = given[frame] else { continue }
          conditions.append(
            .keyframe(
              latent: try latent.to(.cpu, .float32), frame: frame - window.first,
              strength: DetailingPlan.keyframeStrength))
        }
        conditions.append(try slots(window, part, full.factors))
        let sequence = try grid.sequence(conditions, start: part)
        sampler.ancestral = try AncestralNoise(
          eta: DetailingPlan.eta, seed: plan.seed &+ round.seedOffset &+ UInt64(number))
        let start = try start(
          sequence, sampling, result, state, prompt: index, of: .video, isFrozen: false)
        let end = try sampler.sample(
          PerModality(video: start, audio: nil), sigmas: sampling.sigmas
        ) { step, samples in
          try requireFinite(samples.video, .video, step: step, of: steps)
          let done = (index * round.windows.count + number) * steps + step + 1
          try advance(done, total)
        }
        guard let sampled = end.video else { preconditionFailure("a sampling without video") }
        latents.append(
          try VideoTokens.unpatchify(
            resultTokens(sampled), frames: grid.frames, rows: grid.rows, columns: grid.columns
          ).narrow(2, window.skipped, range.count - window.skipped))
        // A window repeats the last segment of the one before, whose keyframes are kept.
        for (frame, latent) in try Self.keyframes(sampled, window.generated, grid)
        where keyframes[frame] == nil {
          keyframes[frame] = latent
        }
      }
      state.results[index].video = try Tensor.cat(latents, 2)
      state.results[index].keyframes = keyframes
    }
  }

  /// The images of the second stage that belong to a window, at its own frames.
  private func images(
    _ conditions: [LatentCondition], in window: KeyframeCanvas.Window, scale: Int
  ) -> [LatentCondition] {
    conditions.compactMap { condition in
      let (latent, frame, strength): (Tensor, Int, Double)
      switch condition {
      case .replace(let image, _, let own): (latent, frame, strength) = (image, 0, own)
      case .keyframe(let image, let place, let own):
        (latent, frame, strength) = (image, place * scale, own)
      case .reference, .masked, .generatedKeyframes: return nil
      }
      guard (window.first...window.last).contains(frame) else { return nil }
      return frame == window.first
        ? .replace(latent: latent, latentFrame: 0, strength: strength)
        : .keyframe(latent: latent, frame: frame - window.first, strength: strength)
    }
  }

  /// The generated keyframes of a window, which start from the nearest latent frames of its video.
  private func slots(
    _ window: KeyframeCanvas.Window, _ video: Tensor, _ factors: CompressionFactors
  ) throws -> LatentCondition {
    let frames = window.generated.map { $0 - window.first }
    let nearest = try frames.map { frame in
      let latent = (Double(frame) / Double(factors.time)).rounded(.toNearestOrEven)
      return try video.narrow(2, min(Int(latent), video.size(2) - 1), 1)
    }
    return .generatedKeyframes(frames: frames, start: try .cat(nearest, 2))
  }

  /// The generated keyframes of a sampling by their pixel frames: [1, C, 1, H, W] each.
  static func keyframes(
    _ sampled: SampledModality, _ frames: [Int], _ grid: VideoGrid
  ) throws -> [Int: Tensor] {
    guard let range = sampled.sequence.generatedTokens else { return [:] }
    let latents = try VideoTokens.unpatchify(
      sampled.latent.narrow(1, range.lowerBound, range.count), frames: frames.count,
      rows: grid.rows, columns: grid.columns)
    return Dictionary(
      uniqueKeysWithValues: try frames.enumerated().map { ($1, try latents.narrow(2, $0, 1)) })
  }
}
