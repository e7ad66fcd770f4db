// B batch, C latent channels, F H W latent frames, rows, columns, T tokens of the target, R tokens
// of references.

import LTX
import Support
import Torch

/// Makes training examples for flow matching (Lipman et al., 2023): x is blended with noise at a
/// random sigma, and the target is the velocity noise - x. Conditioned tokens are clean, at
/// timestep 0, and have no loss.
public struct FlowMatching: Sendable {
  public var strategies: PerModality<ModalityStrategy?>
  public var sampler: TimestepSampler
  /// The compression factors of the video VAE.
  public var factors: CompressionFactors
  /// The factors by which references are smaller than their clips.
  public var referenceScale: ReferenceScale
  private let positions = PositionCache()

  public init(
    strategies: PerModality<ModalityStrategy?>, sampler: TimestepSampler,
    factors: CompressionFactors, referenceScale: ReferenceScale = ReferenceScale()
  ) {
    self.strategies = strategies
    self.sampler = sampler
    self.factors = factors
    self.referenceScale = referenceScale
  }

  /// - Returns: the modalities of the strategy, with noise and conditions.
  /// - Throws: `Issue` if the batch lacks a reference or mask, or has one that does not fit.
  public func noised(
    _ batch: TrainingBatch, _ draws: TrainingDraws
  ) throws -> PerModality<NoisedModality?> {
    try strategies.compactMap { modality, strategy in
      guard let batch = batch[modality], let draws = draws[modality] else {
        throw Issue(["batch", .name("\(modality)")], "has no latents, which the strategy needs")
      }
      return try noised(batch, strategy, modality, draws)
    }
  }

  private func noised(
    _ batch: ModalityBatch, _ strategy: ModalityStrategy, _ modality: Modality,
    _ draws: ModalityDraws
  ) throws -> NoisedModality {
    let x = try modality.tokens(batch.latents.tensor)
    let (samples, tokens, device) = (x.size(0), x.size(1), x.device)
    let positions = try self.positions.positions(of: batch.latents, modality, on: device) {
      try modality.positions(batch.latents, factors).uploaded(to: device)
    }
    var result: NoisedModality
    if strategy.isGenerated {
      guard let sigma = draws.sigma, let noise = draws.noise else {
        throw Issue(["batch", .name("\(modality)")], "has no noise, which the strategy needs")
      }
      let level = try sigma.reshape([samples, 1, 1])
      result = NoisedModality(
        latent: try (1 - level) * x + level * noise, timesteps: try sigma.unsqueeze(1),
        sigma: sigma,
        positions: positions, target: try noise - x,
        lossMask: try .ones([samples, tokens], device: device))
      if let given = try given(strategy, modality, batch, draws)?.uploaded(to: device) {
        result.latent = try Tensor.select(where: given.unsqueeze(-1), x, else: result.latent)
        result.timesteps = try result.timesteps.expand([samples, tokens]).maskedFill(given, 0)
        result.lossMask = try result.lossMask?.maskedFill(given, 0)
      }
    } else {
      let zero = try Tensor.zeros([samples], device: device)
      result = NoisedModality(
        latent: x, timesteps: try zero.unsqueeze(1), sigma: zero, positions: positions, target: nil,
        lossMask: nil)
    }
    for (condition, numbers) in zip(strategy.conditions, draws.conditions) {
      guard let folder = condition.referenceFolder, numbers[0] < condition.probability else {
        continue
      }
      guard let reference = batch.references[folder] else {
        throw Issue(["batch", .name("\(modality)")], "has no references from \(folder)/")
      }
      try prepend(reference, modality, strategy, fps: batch.latents.fps, to: &result)
    }
    return result
  }

  /// The conditioned tokens, [B, T]; nil if no condition applies.
  private func given(
    _ strategy: ModalityStrategy, _ modality: Modality, _ batch: ModalityBatch,
    _ draws: ModalityDraws
  ) throws -> Tensor? {
    let latents = batch.latents.tensor
    var given: Tensor?
    for (condition, numbers) in zip(strategy.conditions, draws.conditions) {
      let chosen = numbers.map { $0 < condition.probability }
      guard chosen.contains(true) else { continue }
      if strategy.sparesSingleFrames, latents.size(2) == 1 { continue }
      guard let region = try condition.tokens(of: batch, modality, factors) else { continue }
      let rows = try Tensor(chosen, shape: [chosen.count, 1]).uploaded(to: region.device)
      let part = try region.logicalAnd(rows)
      given = try given.map { try $0.logicalOr(part) } ?? part
    }
    return given
  }

  /// Prepends a reference: clean, at timestep 0, without loss, and at positions that match the
  /// target's.
  private func prepend(
    _ reference: CachedLatents, _ modality: Modality, _ strategy: ModalityStrategy, fps: [Double],
    to noised: inout NoisedModality
  ) throws {
    let latent = try modality.tokens(reference.tensor)
    let device = noised.latent.device
    guard latent.size(0) == noised.latent.size(0), latent.size(2) == noised.latent.size(2) else {
      throw Issue(
        ["batch", .name("\(modality)"), "reference"],
        "has shape \(reference.tensor.shape), which does not fit the latents")
    }
    var reference = reference
    if strategy.referencesKeepTime { reference.fps = fps }
    var positions = try modality.positions(reference, factors).uploaded(to: device)
    if modality == .video {
      positions = try referenceScale.placing(
        positions, onto: noised.positions, scalesTime: !strategy.referencesKeepTime)
    }
    let (batch, length) = (latent.size(0), latent.size(1))
    // With a reference, a sample has two timesteps.
    let own = try noised.timesteps.expand([batch, noised.latent.size(1)])
    noised.latent = try Tensor.cat([latent.to(noised.latent.dtype), noised.latent], 1)
    noised.timesteps = try Tensor.cat(
      [.zeros([batch, length], dtype: own.dtype, device: device), own], 1)
    noised.positions = try Tensor.cat([positions, noised.positions], 2)
    if let mask = noised.lossMask {
      noised.lossMask = try Tensor.cat(
        [.zeros([batch, length], dtype: mask.dtype, device: device), mask], 1)
    }
  }
}
