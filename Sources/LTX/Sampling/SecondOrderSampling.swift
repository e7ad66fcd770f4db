// B batch, T tokens, C latent channels.

import Foundation
import Torch

extension Sampler {
  /// Walks down the noise levels with res_2s: an exponential Runge-Kutta step of second order in
  /// log sigma, with part of the noise drawn anew at the midpoint and at the end of each step
  /// (ltx-pipelines, `utils/samplers.py`, with its defaults: eta 0.5, c2 0.5, 100 refinements of
  /// the anchor).
  ///
  /// The model is asked twice a step, and once more at the end to take away the last noise. The
  /// fresh noise is the same for every seed, as in the reference.
  func sampleSecondOrder(
    video: SampledModality?, audio: SampledModality?, sigmas: [Float], onStep: OnStep
  ) throws -> (video: SampledModality?, audio: SampledModality?) {
    var (video, audio) = (video, audio)
    let steps = sigmas.count - 1
    var levels = sigmas
    let endsClean = sigmas[steps] == 0
    // log sigma has no 0: the last step stops a little above it.
    if endsClean { levels[steps] = Self.lastLevel }
    let stepNoise = try Generator(seed: Self.stepNoiseSeed)
    let midpointNoise = try Generator(seed: Self.midpointNoiseSeed)
    var last = Prediction()

    for step in 0..<steps {
      let sigma = Double(levels[step])
      let next = Double(levels[step + 1])
      let interval = SecondOrderInterval(h: -log(next / sigma))
      let middle = (sigma * next).squareRoot()

      let first = try predict(video, audio, sigma: sigma, step: step, last: last)
      let videoPoint = try SecondOrderPoint(video, first.video, interval)
      let audioPoint = try SecondOrderPoint(audio, first.audio, interval)
      for (stream, point) in [(video, videoPoint), (audio, audioPoint)] {
        guard let stream, let point else { continue }
        point.middle = try stream.mixingInNoise(
          point.middle, anchor: point.anchor, .init(from: sigma, to: middle), midpointNoise)
      }
      if interval.h < 0.5, sigma > 0.03 {
        try videoPoint?.refineAnchor(interval)
        try audioPoint?.refineAnchor(interval)
      }

      let second = try predict(
        videoPoint?.atMiddle(video), audioPoint?.atMiddle(audio), sigma: middle, step: 0,
        last: first)
      last = second
      // The reference takes these coefficients in float32, those of the midpoint in float64.
      let renoising = Renoising(from: levels[step], to: levels[step + 1])
      video = try videoPoint?.end(video, second.video, interval, renoising, stepNoise) ?? video
      audio = try audioPoint?.end(audio, second.audio, interval, renoising, stepNoise) ?? audio
      if step + 1 < steps || !endsClean { try onStep(step, video, audio) }
    }
    if endsClean {
      last = try predict(video, audio, sigma: Double(Self.lastLevel), step: steps, last: last)
      video = try video.map { stream in
        try last.video.map { stream.with(latent: try stream.keepingKnown($0)) } ?? stream
      }
      audio = try audio.map { stream in
        try last.audio.map { stream.with(latent: try stream.keepingKnown($0)) } ?? stream
      }
      try onStep(steps - 1, video, audio)
    }
    return (video, audio)
  }

  private static let lastLevel: Float = 0.0011
  /// The reference's -1 and 9999.
  private static let stepNoiseSeed = UInt64.max
  private static let midpointNoiseSeed: UInt64 = 9999
}

/// The coefficients of a step of length h in -log sigma.
private struct SecondOrderInterval {
  let h: Double
  /// How far the first direction leads to the midpoint.
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

/// How much of what is there stays, and how much fresh noise comes in, on the way from one noise
/// level to another: half of the noise is drawn anew, and the sum keeps its variance.
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

/// One stream within a step, in float64.
private final class SecondOrderPoint {
  /// Where the step starts from: [B, T, C].
  private(set) var anchor: Tensor
  private let x0: Tensor
  private var direction: Tensor
  /// Half-way, where the second prediction is made.
  var middle: Tensor

  init?(_ stream: SampledModality?, _ predicted: Tensor?, _ interval: SecondOrderInterval) throws {
    guard let stream, let predicted else { return nil }
    anchor = try stream.latent.to(.float64)
    x0 = try stream.keepingKnown(predicted).to(.float64)
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

  func atMiddle(_ stream: SampledModality?) throws -> SampledModality? {
    try stream.map { $0.with(latent: try middle.to($0.latent.dtype)) }
  }

  /// The stream at the end of the step.
  func end(
    _ stream: SampledModality?, _ predicted: Tensor?, _ interval: SecondOrderInterval,
    _ renoising: Renoising,
    _ generator: Generator
  ) throws -> SampledModality? {
    guard let stream, let predicted else { return stream }
    let second = try stream.keepingKnown(predicted).to(.float64) - anchor
    let next = try anchor + direction * interval.firstWeight + second * interval.secondWeight
    let noised = try stream.mixingInNoise(next, anchor: anchor, renoising, generator)
    return stream.with(latent: try noised.to(stream.latent.dtype))
  }
}

extension SampledModality {
  /// Mixes fresh noise into where a step has led, float64 [B, T, C].
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
