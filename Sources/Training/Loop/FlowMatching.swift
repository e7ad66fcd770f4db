// B batch, C latent channels, F H W latent frames, rows, columns, T = F * H * W tokens, S text tokens, W context width.

import Foundation
import LTX
import Torch

/// How the noise level of a training sample is drawn (ltx-trainer, `timestep_samplers.py`).
public enum TimestepSampler: Sendable {
  case uniform
  /// A logit-normal whose mean grows with the number of tokens, stretched to reach 0 and 1, with one sample in ten
  /// uniform.
  case shiftedLogitNormal

  /// - Parameters:
  ///   - normal, uniform, probability: draws of shape [n]; `uniform` alone counts for `.uniform`.
  ///   - tokens: of one sample.
  /// - Returns: sigmas in [0, 1], [n].
  public func sigmas(normal: Tensor, uniform: Tensor, probability: Tensor, tokens: Int) throws -> Tensor {
    guard case .shiftedLogitNormal = self else { return uniform }
    let eps = 1e-3
    let slope = (2.05 - 0.95) / (4096 - 1024)
    let shift = slope * Double(tokens) + 0.95 - slope * 1024
    func sigmoid(_ x: Double) -> Double { 1 / (1 + exp(-x)) }
    // The 99.9th and the 0.5th percentile of the standard normal.
    let (high, low) = (sigmoid(shift + 3.0902), sigmoid(shift - 2.5758))
    let stretched = try ((normal + shift).sigmoid() - low) / (high - low)
    let reflected = try Tensor.select(
      where: stretched.greaterOrEqual(to: Scalar(eps)), stretched, else: 2 * eps - stretched)
    return try Tensor.select(
      where: probability.greater(than: 0.1), reflected.clamped(min: 0, max: 1),
      else: uniform * (1 - eps) + eps)
  }

  func sample(_ count: Int, tokens: Int, from generator: Generator) throws -> Tensor {
    try sigmas(
      normal: generator.normal([count]), uniform: generator.uniform([count]),
      probability: generator.uniform([count]), tokens: tokens)
  }
}

/// Makes training examples for flow matching (Lipman et al., 2023): x is blended with noise by a drawn sigma, and the
/// model answers the velocity noise - x.
public struct FlowMatching: Sendable {
  public var sampler: TimestepSampler
  /// How often a sample's first frame is given: clean, at timestep 0, and not counted in the loss.
  public var firstFrameProbability: Double
  public var factors: CompressionFactors

  public init(sampler: TimestepSampler, firstFrameProbability: Double, factors: CompressionFactors) {
    self.sampler = sampler
    self.firstFrameProbability = firstFrameProbability
    self.factors = factors
  }

  /// - Parameters:
  ///   - latents: [B, C, F, H, W], float32.
  ///   - fps: of the batch.
  ///   - context: [B, S, W], from the connectors.
  ///   - generator: where sigma, noise and the choice of conditions come from, in this order.
  public func example(
    latents: Tensor, fps: Double, context: Tensor, contextMask: Tensor?, generator: Generator
  ) throws -> TrainingExample {
    let shape = latents.shape
    let batch = shape[0]
    let (frames, rows, columns) = (shape[2], shape[3], shape[4])
    let x = try VideoTokens.patchify(latents)
    let device = x.device
    let sigma = try sampler.sample(batch, tokens: x.size(1), from: generator).to(device)
    let noise = try generator.normal(x.shape).to(device)
    let perSample = try sigma.reshape([batch, 1, 1])
    var noisy = try (1 - perSample) * x + perSample * noise
    // One timestep for all tokens of a sample, as long as none of them is given.
    var timesteps = try sigma.unsqueeze(1)
    var lossMask = try Tensor.ones([batch, x.size(1)], device: device)
    let isGiven = try firstFrameTokens(batch: batch, tokens: x.size(1), perFrame: rows * columns, generator)
    if let given = try isGiven?.to(device) {
      noisy = try Tensor.select(where: given.unsqueeze(-1), x, else: noisy)
      timesteps = try timesteps.expand([batch, x.size(1)]).maskedFill(given, 0)
      lossMask = try lossMask.maskedFill(given, 0)
    }
    let positions = try VideoTokens.positions(
      batch: batch, frames: frames, rows: rows, columns: columns, fps: fps, factors: factors)
    return TrainingExample(
      video: .init(
        modality: Modality(
          latent: noisy, timesteps: timesteps, sigma: sigma, positions: try positions.to(device),
          context: context,
          contextMask: contextMask),
        target: try noise - x, lossMask: lossMask),
      audio: nil)
  }

  /// Which tokens are given, [B, T]; nil for none. A video of one frame has nothing left to predict, and is left alone.
  private func firstFrameTokens(
    batch: Int, tokens: Int, perFrame: Int, _ generator: Generator
  ) throws -> Tensor? {
    guard firstFrameProbability > 0, perFrame < tokens else { return nil }
    let draws: [Float] = try generator.uniform([batch]).array()
    let chosen = draws.map { Double($0) < firstFrameProbability }
    guard chosen.contains(true) else { return nil }
    return try Tensor(
      chosen.flatMap { given in (0..<tokens).map { given && $0 < perFrame } }, shape: [batch, tokens])
  }
}
