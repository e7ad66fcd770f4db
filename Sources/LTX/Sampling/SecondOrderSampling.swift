// B batch, T tokens, C latent channels.

import Foundation
import Torch

extension Sampler {
  /// Samples with res_2s, an exponential Runge-Kutta method of second order in log sigma. Part of
  /// the noise is replaced by fresh noise at the midpoint and at the end of each step
  /// (ltx-pipelines, `utils/samplers.py`, with its defaults: eta 0.5, c2 0.5, 100 refinements of
  /// the anchor).
  ///
  /// The model runs twice per step, and once more at the end to remove the last noise. The fresh
  /// noise is the same for every seed, like in upstream.
  func sampleSecondOrder(
    _ start: PerModality<SampledModality?>, sigmas: [Float], onStep: OnStep
  ) throws -> PerModality<SampledModality?> {
    var sampled = start
    let steps = sigmas.count - 1
    var levels = sigmas
    let endsClean = sigmas[steps] == 0
    // log sigma is infinite at 0, so the last step stops a little above it.
    if endsClean { levels[steps] = Self.lastLevel }
    let stepNoise = try Generator(seed: Self.stepNoiseSeed)
    let midpointNoise = try Generator(seed: Self.midpointNoiseSeed)
    var last = Prediction()

    for step in 0..<steps {
      let sigma = Double(levels[step])
      let next = Double(levels[step + 1])
      let interval = SecondOrderInterval(h: -log(next / sigma))
      let middle = (sigma * next).squareRoot()

      let first = try predict(sampled, sigma: sigma, step: step, last: last)
      let points = try sampled.compactMap { modality, sample in
        try first[modality].map { try SecondOrderPoint(sample, $0, interval) }
      }
      for modality in Modality.allCases {
        guard let sample = sampled[modality], let point = points[modality] else { continue }
        point.middle = try sample.mixingInNoise(
          point.middle, anchor: point.anchor, .init(from: sigma, to: middle), midpointNoise)
      }
      if interval.h < 0.5, sigma > 0.03 {
        for point in points.values() { try point.refineAnchor(interval) }
      }

      let second = try predict(
        sampled.compactMap { try points[$0]?.atMiddle($1) }, sigma: middle, step: 0, last: first)
      last = second
      // Upstream computes these coefficients in float32, those of the midpoint in float64.
      let renoising = Renoising(from: levels[step], to: levels[step + 1])
      sampled = try sampled.compactMap { modality, sample in
        try points[modality]?.end(sample, second[modality], interval, renoising, stepNoise)
          ?? sample
      }
      if step + 1 < steps || !endsClean { try onStep(step, sampled) }
    }
    if endsClean {
      last = try predict(sampled, sigma: Double(Self.lastLevel), step: steps, last: last)
      sampled = try sampled.compactMap { modality, sample in
        try last[modality].map { sample.with(latent: try sample.keepingKnown($0)) } ?? sample
      }
      try onStep(steps - 1, sampled)
    }
    return sampled
  }

  private static let lastLevel: Float = 0.0011
  /// Upstream's seeds, -1 and 9999.
  private static let stepNoiseSeed = UInt64.max
  private static let midpointNoiseSeed: UInt64 = 9999
}

/// The coefficients of a step of length h in -log sigma.
private struct SecondOrderInterval {
  let h: Double
  /// The step along the first direction to the midpoint.
  let toMiddle: Double
  let firstWeight: Double
  let secondWeight: Double

  init(h: Double) {
    self.h = h
    toMiddle = h * 0.5 * Self.phi(1, -h * 0.5)
    let b2 = Self.phi(2, -h) / 0.5
    firstWeight = h * (Self.phi(1, -h) - b2)
    secondWeight = h * b2
  }

  /// phi_j(z) = (e^z - sum of z^k / k! for k < j) / z^j.
  private static func phi(_ j: Int, _ z: Double) -> Double {
    guard abs(z) >= 1e-10 else { return j == 1 ? 1 : 0.5 }
    return j == 1 ? (exp(z) - 1) / z : (exp(z) - (1 + z)) / (z * z)
  }
}

/// The shares of the current state and of fresh noise in a step from one noise level to another.
/// Half of the noise is replaced, and the sum keeps its variance.
private struct Renoising {
  let sigma: Double
  let next: Double
  let kept: Double
  let down: Double
  let fresh: Double

  init<Number: BinaryFloatingPoint>(from sigma: Number, to next: Number) {
    let up = min(next * 0.5, next * 0.9999)
    let residual = (next * next - up * up).squareRoot()
    let ratio = 1 - next + residual
    self.sigma = Double(sigma)
    self.next = Double(next)
    kept = Double(ratio)
    down = Double(residual / ratio)
    fresh = Double(up)
  }
}

/// One modality within a step, in float64.
private final class SecondOrderPoint {
  /// The start of the step: [B, T, C].
  private(set) var anchor: Tensor
  private let x0: Tensor
  private var direction: Tensor
  /// The midpoint, at which the second prediction is made.
  var middle: Tensor

  init(_ sample: SampledModality, _ predicted: Tensor, _ interval: SecondOrderInterval) throws {
    anchor = try sample.latent.to(.float64)
    x0 = try sample.keepingKnown(predicted).to(.float64)
    direction = try x0 - anchor
    middle = try anchor + direction * interval.toMiddle
  }

  /// Finds the start from which the first direction leads to the noised midpoint.
  func refineAnchor(_ interval: SecondOrderInterval) throws {
    for _ in 0..<100 {
      anchor = try middle - direction * interval.toMiddle
      direction = try x0 - anchor
    }
  }

  func atMiddle(_ sample: SampledModality) throws -> SampledModality {
    sample.with(latent: try middle.to(sample.latent.dtype))
  }

  /// The modality at the end of the step.
  func end(
    _ sample: SampledModality, _ predicted: Tensor?, _ interval: SecondOrderInterval,
    _ renoising: Renoising, _ generator: Generator
  ) throws -> SampledModality {
    guard let predicted else { return sample }
    let second = try sample.keepingKnown(predicted).to(.float64) - anchor
    let next = try anchor + direction * interval.firstWeight + second * interval.secondWeight
    let noised = try sample.mixingInNoise(next, anchor: anchor, renoising, generator)
    return sample.with(latent: try noised.to(sample.latent.dtype))
  }
}

extension SampledModality {
  /// Mixes fresh noise into the state after a step, float64 [B, T, C].
  fileprivate func mixingInNoise(
    _ x: Tensor, anchor: Tensor, _ renoising: Renoising, _ generator: Generator
  ) throws -> Tensor {
    var noise = try generator.normal(x.shape, dtype: .float64)
    noise = try (noise - noise.mean()) / noise.std()
    let mean = try noise.mean([1, 2], keepdim: true)
    noise = try ((noise - mean) / noise.std([1, 2], keepdim: true)).to(x.device)
    guard renoising.fresh != 0, renoising.next != 0 else { return x }
    let direction = try (anchor - x) / (renoising.sigma - renoising.next)
    let x0 = try anchor - direction * renoising.sigma
    let mixed = try (x0 + direction * renoising.down) * renoising.kept + noise * renoising.fresh
    return try keepingKnown(mixed)
  }
}
