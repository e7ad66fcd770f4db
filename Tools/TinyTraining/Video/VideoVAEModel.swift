// B batch, C latent channels, F H W latent frames, rows, columns.

import DemoData
import LTX
import NN
import Support
import Torch

extension TinyVideoVAE {
  /// The video VAE of the demo's model: LTX-2.3's layers, with narrow features and without the
  /// residual blocks at full resolution.
  public static var demo: TinyVideoVAE {
    var sizes = TinyVideoVAE(generation: .ltx23)
    (sizes.latentChannels, sizes.decoderChannels) = (32, 24)
    sizes.encoderChanges = [.all(multiplier: 2), .all(multiplier: 1), .all(multiplier: 1)]
    sizes.encoderLayers = [0, 1, 1, 1]
    sizes.decoderChanges = [
      .all(multiplier: 2), .all(multiplier: 1), .time(multiplier: 1), .space(multiplier: 2),
    ]
    sizes.decoderLayers = [0, 1, 1, 1, 1]
    return sizes
  }
}

/// The video VAE in training: pixels are reconstructed from latents with noise, so that neighboring
/// latents decode to similar pixels and errors of the transformer do little harm.
public final class VideoVAEModel: StageModel {
  /// A part of the stage, whose steps take turns with kinds of batches.
  struct Phase: Sendable {
    struct Batch: Sendable {
      let window: VideoClips.Window
      let count: Int
    }

    /// The share of the stage's steps.
    let share: Double
    let batches: [Batch]
  }

  /// Small crops in turn with whole frames, then whole clips. In crops, most pixels matter, but
  /// their cells lack neighbors: a VAE of crops alone fails on whole frames.
  static let phases = [
    Phase(
      share: 0.75,
      batches: [
        .init(window: .init(side: 64, frames: 17), count: 6),
        .init(window: .init(frames: 9), count: 2),
      ]),
    Phase(share: 0.25, batches: [.init(window: .init(), count: 2)]),
  ]

  /// The standard deviation of the noise, in units of each channel's own.
  private static let noise = 0.1
  /// The weight of the penalty for channels whose mean isn't 0 or whose variance isn't 1.
  private static let momentWeight = 0.02

  private let steps: Int
  /// The number of held-out clips of each style that the model is evaluated with.
  private let measuredClips: Int
  /// The number of training clips that statistics are computed from.
  private let statisticsClips: Int
  private let phases: [Phase]
  private let clips: VideoClips
  private let weights: TrainableWeights
  private let encoder: VideoEncoder
  private let decoder: VideoDecoder
  private let sizes: TinyVideoVAE
  private let heldOut: [(style: DemoScene.Style, scenes: [DemoScene])]

  /// - Parameter steps: The number of steps of the stage, which the phases divide.
  public convenience init(_ sizes: TinyVideoVAE = .demo, steps: Int, seed: UInt64) throws {
    try self.init(sizes, steps: steps, phases: Self.phases, seed: seed)
  }

  init(
    _ sizes: TinyVideoVAE, steps: Int, phases: [Phase], measuredClips: Int = 4,
    statisticsClips: Int = 192, seed: UInt64
  ) throws {
    (self.sizes, self.steps, self.phases) = (sizes, steps, phases)
    (self.measuredClips, self.statisticsClips) = (measuredClips, statisticsClips)
    clips = VideoClips(seed: RandomSeed.mix(seed, "clips"))
    weights = try TrainableWeights(
      Self.initialTensors(sizes, seed: seed), config: "{\"vae\": \(sizes.config)}",
      scope: Checkpoint.Prefix.videoVAE, isFrozen: { $0.contains(Self.statisticsScope) })
    let scope = weights.root / Checkpoint.Prefix.videoVAE
    encoder = try VideoEncoder(
      scope, configuration: VideoVAEConfiguration.Encoder(weights.configuration))
    decoder = try VideoDecoder(
      scope, configuration: VideoVAEConfiguration.Decoder(weights.configuration))
    heldOut = DemoScene.Style.allCases.map { style in
      (style, DemoWorld(seed: 1, style: style, part: .heldOut).scenes(0..<measuredClips))
    }
  }

  private static let statisticsScope = "per_channel_statistics"

  /// Residual branches begin at zero, and latents are not normalized in training.
  private static func initialTensors(
    _ sizes: TinyVideoVAE, seed: UInt64
  ) throws -> [(key: String, tensor: Tensor)] {
    let drawn = RandomWeights.Drawn(
      try Generator(seed: RandomSeed.mix(seed, "video VAE")), purpose: .training)
    try sizes.draw(RandomWeights(into: drawn) / Checkpoint.Prefix.videoVAE)
    return try drawn.tensors.map { key, tensor in
      let isZero = key.contains(".conv2.") || key.hasSuffix("\(statisticsScope).mean-of-means")
      if isZero { return (key, try .zeros(like: tensor)) }
      if key.contains(statisticsScope) {
        return (key, try .ones(tensor.shape, dtype: tensor.dtype))
      }
      return (key, tensor)
    }
  }

  public static let defaultSteps = 4500

  /// The settings of the stage.
  public static func options(steps: Int, seed: UInt64) -> StageOptions {
    var options = StageOptions(steps: steps, seed: seed, learningRate: 2e-3)
    options.optimizer = .muon
    return options
  }

  // MARK: Training

  public var parameters: [Parameter] { weights.parameters }

  public var fingerprint: String {
    "video VAE \(sizes.config.split(whereSeparator: \.isWhitespace).joined()) \(phases)"
  }

  private func batch(at step: Int) -> Phase.Batch {
    var end = 0.0
    var current = phases[0]
    for phase in phases {
      current = phase
      end += phase.share * Double(steps)
      if Double(step) < end { break }
    }
    return current.batches[step % current.batches.count]
  }

  public func loss(step: Int, seed: UInt64) throws -> StageLoss {
    let batch = batch(at: step)
    let pixels = try clips.batch(batch.count, batch.window, seed: seed)
    let latent = try encoder(pixels)
    let noise = try Generator(seed: RandomSeed.mix(seed, "noise")).normal(latent.shape)
    let difference = try decoder.decode(latent + noise * Self.noise) - pixels
    let squared = try difference.square().mean()
    let absolute = try difference.abs().mean()
    let moments = try momentPenalty(latent)
    return StageLoss(
      try squared + absolute + moments * Self.momentWeight,
      parts: [("squared", squared), ("absolute", absolute), ("moments", moments)])
  }

  /// The divergence of each channel's normal distribution from the standard one, twice, averaged
  /// over the channels. It keeps all channels in use.
  private func momentPenalty(_ latent: Tensor) throws -> Tensor {
    let axes = [0, 2, 3, 4]
    let mean = try latent.mean(axes, keepdim: true)
    let variance = try (latent - mean).square().mean(axes)
    return try (mean.flatten().square() + variance - 1 - (variance + 1e-6).log()).mean()
  }

  public func evaluate() throws -> [StageMetric] {
    try heldOut.map { style, scenes in
      let decibels = try scenes.map { scene in
        let pixels = try VideoClips.clip(scene)
        return try PeakSignal.decibels(decoder.decode(encoder(pixels)), pixels)
      }
      return StageMetric("psnr_\(style.rawValue)", decibels.reduce(0, +) / Double(scenes.count))
    }
  }

  // MARK: Result

  /// Writes the checkpoint of the VAE, with the statistics of the latents of training clips.
  ///
  /// - Parameter stage: The stage of this model, whose averaged weights are written.
  public func write(_ stage: Stage<VideoVAEModel>, to path: String) throws {
    let statistics = try stage.withAverages { try latentStatistics() }
    let scope = "\(Checkpoint.Prefix.videoVAE).\(Self.statisticsScope)"
    try weights.write(
      stage.averaged,
      replacing: [
        "\(scope).mean-of-means": statistics.mean, "\(scope).std-of-means": statistics.std,
      ], metadata: ["model_version": "2.3.0"], to: path)
  }

  private func latentStatistics() throws -> ChannelStatistics {
    var (sum, squares, count) = (
      try Tensor.zeros([sizes.latentChannels], dtype: .float64),
      try Tensor.zeros([sizes.latentChannels], dtype: .float64), 0
    )
    for index in 0..<statisticsClips {
      let seed = RandomSeed.mix(clips.seed, "statistics", index)
      let pixels = try clips.batch(1, .init(), seed: seed)
      let latent = try encoder(pixels).to(.float64)
      try sum.add_(latent.sum([0, 2, 3, 4]))
      try squares.add_(latent.square().sum([0, 2, 3, 4]))
      count += latent.count / sizes.latentChannels
    }
    let mean = try sum / Double(count)
    let variance = try squares / Double(count) - mean.square()
    return ChannelStatistics(mean: try mean.to(.float32), std: try variance.sqrt().to(.float32))
  }
}
