// B batch, T tokens, C latent channels.

import Torch

/// Replaces part of the noise in each Euler step by fresh noise: a step goes below the next noise
/// level, and fresh noise leads back up to it (ltx-core 1.2.0, `components/diffusion_steps.py`).
///
/// In a model whose noisy state is (1 - sigma) x0 + sigma noise, the way up also scales the state by
/// the ratio of the shares of x0 at both levels, so that its variance stays that of the level.
public struct AncestralNoise: Sendable {
  /// Returns the fresh noise of a modality in a step, [B, T, C], for a shape. It is called for the
  /// video first.
  public typealias Source = @Sendable (_ step: Int, Modality, _ shape: [Int]) throws -> Tensor

  /// The offset of the fresh noise's seed from the seed of the initial noise. With the same seed,
  /// the first fresh noise would repeat the initial one.
  public static let seedOffset: UInt64 = 10_000

  /// The share of the noise that is replaced, from 0 to 1. With 0, a step is a plain Euler step and
  /// needs no noise.
  public let eta: Double
  /// The factor of the fresh noise.
  public let scale: Double
  private let source: Source

  public init(eta: Double = 1, scale: Double = 1, source: @escaping Source) {
    (self.eta, self.scale, self.source) = (eta, scale, source)
  }

  /// Takes the noise of both modalities from one generator on the CPU, in float32.
  public init(eta: Double = 1, scale: Double = 1, seed: UInt64) throws {
    let generator = try Generator(seed: seed)
    self.init(eta: eta, scale: scale) { _, _, shape in try generator.normal(shape) }
  }

  /// A modality after a step, with its known tokens unchanged. At a noise level of 0 it is the
  /// prediction, and nothing is drawn.
  ///
  /// - Parameters:
  ///   - x0: The prediction, [B, T, C].
  ///   - from, next: The noise levels of the step.
  func step(
    _ sample: SampledModality, _ modality: Modality, towards x0: Tensor, from: Float,
    to next: Float, index: Int
  ) throws -> SampledModality {
    guard !sample.isFrozen else { return sample }
    let dtype = sample.latent.dtype
    let x0 = try sample.keepingKnown(x0.to(.float32))
    guard next != 0 else { return sample.with(latent: try x0.to(dtype)) }
    let levels = Levels(from: from, to: next, eta: Float(eta))
    var x = try sample.latent.to(.float32) * levels.kept + x0 * (1 - levels.kept)
    if eta != 0 {
      let noise = try source(index, modality, x.shape).to(x.device, .float32)
      x = try x * levels.rescaling + noise * (scale * levels.fresh)
      x = try sample.keepingKnown(x)
    }
    return sample.with(latent: try x.to(dtype))
  }

  /// The factors of a step. They are computed in float32, like upstream's.
  struct Levels {
    /// The share of the state in its mixture with the prediction.
    let kept: Double
    /// The ratio of the shares of x0 at the next level and below it.
    let rescaling: Double
    /// The share of the fresh noise.
    let fresh: Double

    init(from sigma: Float, to next: Float, eta: Float) {
      let down = next * (1 + (next / sigma - 1) * eta)
      let ratio = (1 - next) / (1 - down)
      kept = Double(down / sigma)
      rescaling = Double(ratio)
      fresh = Double(max(next * next - down * down * ratio * ratio, 0).squareRoot())
    }
  }
}
