// B batch, C latent channels, F H W latent frames, rows, columns, T tokens of the target, R tokens
// of references.

import LTX
import Support
import Torch

/// Makes training examples for flow matching (Lipman et al., 2023): x is blended with noise by a
/// random sigma, and the model predicts the velocity noise - x. Conditioned tokens are clean, at
/// timestep 0, and have no loss.
public struct FlowMatching: Sendable {
  public var strategies: StreamStrategies
  public var sampler: TimestepSampler
  /// The compression factors of the video VAE.
  public var factors: CompressionFactors
  /// The scale of references relative to their clips.
  public var referenceScale: ReferenceScale

  public init(
    strategies: StreamStrategies, sampler: TimestepSampler, factors: CompressionFactors,
    referenceScale: ReferenceScale = ReferenceScale()
  ) {
    self.strategies = strategies
    self.sampler = sampler
    self.factors = factors
    self.referenceScale = referenceScale
  }

  /// - Returns: the modalities of the strategy, with noise and conditions.
  /// - Throws: `Issue` if the batch lacks a reference or mask, or has one that does not fit.
  public func noised(_ batch: TrainingBatch, _ draws: TrainingDraws) throws -> (
    video: NoisedModality?, audio: NoisedModality?
  ) {
    func stream(
      _ strategy: StreamStrategy?, _ kind: Modality, _ stream: TrainingBatch.Stream?,
      _ draws: ModalityDraws?
    ) throws -> NoisedModality? {
      guard let strategy else { return nil }
      guard let stream, let draws else {
        throw Issue(["batch", .name("\(kind)")], "has no latents, which the strategy needs")
      }
      return try noised(stream, strategy, kind, draws)
    }
    return (
      try stream(strategies.video, .video, batch.video, draws.video),
      try stream(strategies.audio, .audio, batch.audio, draws.audio)
    )
  }

  private func noised(
    _ stream: TrainingBatch.Stream, _ strategy: StreamStrategy, _ kind: Modality,
    _ draws: ModalityDraws
  ) throws -> NoisedModality {
    let x = try kind.tokens(stream.latents.tensor)
    let (batch, tokens, device) = (x.size(0), x.size(1), x.device)
    let positions = try kind.positions(stream.latents, factors).to(device)
    var result: NoisedModality
    if strategy.isGenerated {
      guard let sigma = draws.sigma, let noise = draws.noise else {
        throw Issue(["batch", .name("\(kind)")], "has no noise, which the strategy needs")
      }
      let level = try sigma.reshape([batch, 1, 1])
      result = NoisedModality(
        latent: try (1 - level) * x + level * noise, timesteps: try sigma.unsqueeze(1),
        sigma: sigma,
        positions: positions, target: try noise - x,
        lossMask: try .ones([batch, tokens], device: device))
      if let given = try given(strategy, kind, stream, draws)?.to(device) {
        result.latent = try Tensor.select(where: given.unsqueeze(-1), x, else: result.latent)
        result.timesteps = try result.timesteps.expand([batch, tokens]).maskedFill(given, 0)
        result.lossMask = try result.lossMask?.maskedFill(given, 0)
      }
    } else {
      let zero = try Tensor.zeros([batch], device: device)
      result = NoisedModality(
        latent: x, timesteps: try zero.unsqueeze(1), sigma: zero, positions: positions, target: nil,
        lossMask: nil)
    }
    for (condition, numbers) in zip(strategy.conditions, draws.conditions) {
      guard let folder = condition.referenceFolder, numbers[0] < condition.probability else {
        continue
      }
      guard let reference = stream.references[folder] else {
        throw Issue(["batch", .name("\(kind)")], "has no references from \(folder)/")
      }
      try prepend(reference, kind, strategy, fps: stream.latents.fps, tokens: tokens, to: &result)
    }
    return result
  }

  /// Returns the conditioned tokens, [B, T]; nil for none.
  private func given(
    _ strategy: StreamStrategy, _ kind: Modality, _ stream: TrainingBatch.Stream,
    _ draws: ModalityDraws
  ) throws -> Tensor? {
    let latents = stream.latents.tensor
    var given: Tensor?
    for (condition, numbers) in zip(strategy.conditions, draws.conditions) {
      let chosen = numbers.map { $0 < condition.probability }
      guard chosen.contains(true) else { continue }
      if strategy.sparesSingleFrames, kind.steps(latents) == 1 { continue }
      guard let region = try condition.kind.region(of: stream, kind, factors) else { continue }
      let rows = try Tensor(chosen, shape: [chosen.count, 1]).to(region.device)
      let part = try region.logicalAnd(rows)
      given = try given.map { try $0.logicalOr(part) } ?? part
    }
    return given
  }

  /// Puts a reference in front: clean, at timestep 0, without loss, at positions that match the
  /// target's.
  private func prepend(
    _ reference: TrainingBatch.Latents, _ kind: Modality, _ strategy: StreamStrategy,
    fps: [Double],
    tokens: Int, to stream: inout NoisedModality
  ) throws {
    let latent = try kind.tokens(reference.tensor)
    let device = stream.latent.device
    guard latent.size(0) == stream.latent.size(0), latent.size(2) == stream.latent.size(2) else {
      throw Issue(
        ["batch", .name("\(kind)"), "reference"],
        "has shape \(reference.tensor.shape), which does not fit the latents")
    }
    var reference = reference
    if strategy.referencesKeepTime { reference.fps = fps }
    var positions = try kind.positions(reference, factors).to(device)
    if kind == .video {
      positions = try referenceScale.placing(
        positions, onto: stream.positions, scalesTime: !strategy.referencesKeepTime)
    }
    let (batch, length) = (latent.size(0), latent.size(1))
    // With a reference there are two timesteps in a sample.
    let own = try stream.timesteps.expand([batch, stream.latent.size(1)])
    stream.latent = try Tensor.cat([latent.to(stream.latent.dtype), stream.latent], 1)
    stream.timesteps = try Tensor.cat(
      [.zeros([batch, length], dtype: own.dtype, device: device), own], 1)
    stream.positions = try Tensor.cat([positions, stream.positions], 2)
    if let mask = stream.lossMask {
      stream.lossMask = try Tensor.cat(
        [.zeros([batch, length], dtype: mask.dtype, device: device), mask], 1)
    }
  }
}
