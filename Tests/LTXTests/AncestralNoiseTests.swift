// B batch, T tokens, C latent channels.

import NN
import Synchronization
import TestSupport
import Testing
import Torch

@testable import LTX

/// Euler steps with fresh noise.
@Suite struct AncestralNoiseTests {
  private let transformer: Transformer
  private let video = VideoGrid(
    batch: 1, channels: 16, frames: 2, rows: 2, columns: 2, fps: 25, factors: .usual)
  private static let sigmas: [Float] = [1, 0.8, 0.35, 0]

  init() throws {
    let scratch = try ScratchFolder()
    let path = scratch.file("model.safetensors")
    var model = TinyTransformer.ltx25()
    model.blocks = 1
    try model.write(to: path, seed: 1)
    transformer = try Checkpoint(path: path).transformer(LoadPolicy(dtype: .float32))
  }

  /// A step keeps the share of x0 and the variance of the noise at the next level.
  @Test(arguments: [Float(0), 0.3, 0.5, 1])
  func theVarianceIsThatOfTheLevel(eta: Float) {
    for (sigma, next) in [(1, 0.99375), (0.975, 0.909375), (0.725, 0.421875), (0.4, 0.01)]
      as [(Float, Float)]
    {
      let levels = AncestralNoise.Levels(from: sigma, to: next, eta: eta)
      // x = (1 - sigma) x0 + sigma noise
      let signal = (1 - Double(sigma)) * levels.kept + 1 - levels.kept
      let noise = Double(sigma) * levels.kept * levels.rescaling
      #expect(abs(signal * levels.rescaling - (1 - Double(next))) < 1e-6)
      let total = (noise * noise + levels.fresh * levels.fresh).squareRoot()
      #expect(abs(total - Double(next)) < 1e-6)
      #expect(eta == 0 ? levels.fresh == 0 : levels.fresh > 0)
    }
  }

  private func start(isFrozen: Bool = false) throws -> PerModality<SampledModality?> {
    let random = try Generator(seed: 3)
    var sequence = try video.sequence([
      .replace(latent: random.normal([1, 16, 1, 2, 2]), latentFrame: 0, strength: 0.9)
    ])
    sequence.keyframesMask = try Tensor([1, 1, 1, 1, 0, 0, 0, 0] as [Float], shape: [1, 8])
    let sizes = transformer.configuration.sizes
    let audio = AudioGrid(batch: 1, channels: sizes.audio.inputs / 16, bins: 16, frames: 5)
    return PerModality(
      video: try SampledModality(
        noise: random.normal([1, 8, 16]), sequence: sequence,
        context: random.normal([1, 4, sizes.video.contextWidth])),
      audio: try SampledModality(
        noise: random.normal([1, 5, sizes.audio.inputs]), sequence: audio.sequence(),
        context: random.normal([1, 4, sizes.audio.contextWidth]), isFrozen: isFrozen))
  }

  private func sample(
    _ start: PerModality<SampledModality?>, _ ancestral: AncestralNoise?
  ) throws -> PerModality<Tensor?> {
    var sampler = Sampler(transformer: transformer)
    sampler.ancestral = ancestral
    return try withInference {
      try sampler.sample(start, sigmas: Self.sigmas).map { $0?.latent }
    }
  }

  /// The noise that a sampling asked for, in order.
  private final class Recorder: Sendable {
    private let generator: Generator
    private let calls = Mutex<[(step: Int, modality: Modality, noise: Tensor)]>([])

    init() throws { generator = try Generator(seed: 11) }

    var recorded: [(step: Int, modality: Modality, noise: Tensor)] { calls.withLock { $0 } }

    func noise(eta: Double, scale: Double = 1) -> AncestralNoise {
      AncestralNoise(eta: eta, scale: scale) { step, modality, shape in
        let noise = try self.generator.normal(shape)
        self.calls.withLock { $0.append((step, modality, noise)) }
        return noise
      }
    }
  }

  /// The steps written out for all modalities, with the drawn noise.
  @Test(arguments: [(0.5, 1.0), (1.0, 0.7)])
  func stepsFollowTheFormula(_ eta: Double, _ scale: Double) throws {
    let recorder = try Recorder()
    let start = try start()
    let found = try sample(start, recorder.noise(eta: eta, scale: scale))
    let draws = recorder.recorded
    // The last step ends at 0 and draws nothing; the video comes first.
    #expect(draws.map(\.step) == [0, 0, 1, 1])
    #expect(draws.map(\.modality) == [.video, .audio, .video, .audio])

    var x = start.map { $0?.latent }
    for (step, (sigma, next)) in zip(Self.sigmas, Self.sigmas.dropFirst()).enumerated() {
      let (s, n) = (Double(sigma), Double(next))
      let inputs = try start.compactMap { modality, sample in
        let latent = try #require(x[modality])
        return ModalityInput(
          latent: latent, timesteps: try sample.sequence.denoiseMask * s,
          sigma: try .full([1], Scalar(s)), positions: sample.sequence.positions,
          context: sample.context, keyframesMask: sample.sequence.keyframesMask)
      }
      let velocities = try withInference { try transformer(inputs) }
      x = try start.compactMap { modality, sample in
        let (latent, velocity) = try (#require(x[modality]), #require(velocities[modality]))
        let mask = try sample.sequence.denoiseMask.unsqueeze(-1)
        func blended(_ x: Tensor) throws -> Tensor {
          try x * mask + sample.sequence.clean * (1 - mask)
        }
        let x0 = try blended(latent - velocity * mask * s)
        guard n > 0 else { return x0 }
        let d = n * (1 + (n / s - 1) * eta)
        let y = try latent * (d / s) + x0 * (1 - d / s)
        let ratio = (1 - n) / (1 - d)
        let noise = try #require(draws.first { $0.step == step && $0.modality == modality }?.noise)
        let fresh = max(n * n - d * d * ratio * ratio, 0).squareRoot()
        return try blended(y * ratio + noise * (scale * fresh))
      }
    }
    for modality in Modality.allCases {
      let distance = try LoRAFixture.distance(
        #require(found[modality]), #require(x[modality]))
      #expect(distance < 1e-5, "\(modality): \(distance)")
    }
  }

  @Test func withoutEtaAStepIsAPlainEulerStep() throws {
    let recorder = try Recorder()
    let (none, plain) = (
      try sample(start(), recorder.noise(eta: 0)), try sample(start(), nil)
    )
    #expect(recorder.recorded.isEmpty)
    for modality in Modality.allCases {
      let distance = try LoRAFixture.distance(#require(none[modality]), #require(plain[modality]))
      #expect(distance < 1e-5)
    }
  }

  @Test func aGivenModalityStaysAndDrawsNothing() throws {
    let recorder = try Recorder()
    let start = try start(isFrozen: true)
    let end = try sample(start, recorder.noise(eta: 1))
    #expect(recorder.recorded.allSatisfy { $0.modality == .video })
    #expect(try Tensor.isEqual(#require(end.audio), #require(start.audio?.latent)))
  }

  @Test func theSeedDecidesTheNoise() throws {
    func video(_ seed: UInt64) throws -> Tensor {
      try #require(sample(start(), AncestralNoise(seed: seed)).video)
    }
    #expect(try Tensor.isEqual(video(4), video(4)))
    #expect(try !Tensor.isEqual(video(4), video(4 + AncestralNoise.seedOffset)))
  }
}
