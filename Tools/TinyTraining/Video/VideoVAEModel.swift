import DemoData
import LTX
import NN
import Support
import Torch

extension TinyVideoVAE {
  /// The video VAE of the demo's model: LTX-2.3's layers, with narrow features. The decoder draws edges
  /// of any color within its patches, which takes a residual block at full resolution.
  public static var demo: TinyVideoVAE {
    var sizes = TinyVideoVAE(generation: .ltx23)
    (sizes.latentChannels, sizes.decoderChannels) = (SceneLatents.channels, 48)
    sizes.encoderChanges = [.all(multiplier: 2), .all(multiplier: 1), .all(multiplier: 1)]
    sizes.encoderLayers = [0, 1, 2, 2]
    sizes.decoderChanges = [
      .all(multiplier: 1), .all(multiplier: 1), .time(multiplier: 1), .space(multiplier: 2),
    ]
    sizes.decoderLayers = [1, 2, 1, 1, 1]
    return sizes
  }
}

/// A part of the training of the video VAE: the encoder learns to read the latents of drawn clips,
/// the decoder learns to draw them, and both learn to work together.
public final class VideoVAEModel: StageModel {
  /// The parts in their order. Each but the first of a coder begins with the weights of those before.
  public enum Part: String, CaseIterable, Sendable {
    /// Small windows around the shape: many different examples, whose cells lack neighbors.
    case encoderWindows = "encoder-windows"
    case decoderWindows = "decoder-windows"
    /// Windows in turn with whole frames.
    case encoder, decoder, both
    /// Both coders on whole frames, with the pixels' squared error only, which the PSNR measures.
    case finish

    /// The number of steps in the training of the demo's VAE.
    public var defaultSteps: Int {
      switch self {
      case .encoderWindows, .decoderWindows: 4000
      case .encoder: 3500
      case .decoder: 2000
      case .both: 3000
      case .finish: 1000
      }
    }

    private var learningRate: Double {
      switch self {
      case .encoderWindows, .decoderWindows: 2e-3
      case .encoder, .decoder, .both: 1e-3
      case .finish: 3e-4
      }
    }

    /// Muon trains these deep stacks of convolutions several times faster than AdamW.
    public func options(steps: Int, seed: UInt64) -> StageOptions {
      var options = StageOptions(
        steps: steps, seed: RandomSeed.mix(seed, rawValue), learningRate: learningRate)
      options.optimizer = .muon
      options.warmupSteps = min(50, steps / 10)
      return options
    }

    /// The prefix of the keys that are trained.
    fileprivate var scope: String {
      switch self {
      case .encoderWindows, .encoder: "\(Checkpoint.Prefix.videoVAE).encoder."
      case .decoderWindows, .decoder: "\(Checkpoint.Prefix.videoVAE).decoder."
      case .both, .finish: "\(Checkpoint.Prefix.videoVAE)."
      }
    }

    func trains(_ key: String) -> Bool { key.hasPrefix(scope) }

    fileprivate func hasWholeFrames(step: Int) -> Bool {
      switch self {
      case .encoderWindows, .decoderWindows: false
      case .encoder, .decoder, .both: step % 2 == 1
      case .finish: true
      }
    }

    /// The parts whose weights this one begins with.
    var before: [Part] {
      switch self {
      case .encoderWindows, .decoderWindows: []
      case .encoder: [.encoderWindows]
      case .decoder: [.decoderWindows]
      case .both: [.encoder, .decoder]
      case .finish: [.both]
      }
    }
  }

  /// The deviation of the noise on latents that the decoder learns from. A transformer's latents
  /// aren't exact.
  private static let noise = 0.03
  /// The weight of an error at a pixel that differs from its frame's mean by 1, relative to one that
  /// doesn't differ: most of a frame is background.
  private static let foregroundWeight = 4.0
  /// The windows of a step.
  private static let windows = 10
  /// The number of training clips that statistics are computed from.
  private static let statisticsClips = 192
  /// The weight of the pixels' squared error in the last part, where the latents' error has 1.
  private static let squaredWeight = 8.0

  private let part: Part
  private let clips: VideoClips
  private let weights: TrainableWeights
  private let encoder: VideoEncoder
  private let decoder: VideoDecoder
  private let sizes: TinyVideoVAE
  private let heldOut: [(style: DemoScene.Style, scenes: [DemoScene])]

  /// - Parameters:
  ///   - initial: All tensors of the VAE: `initialTensors`, or those of the parts before.
  ///   - measuredClips: The number of held-out clips of each style that an evaluation uses.
  public init(
    _ part: Part, sizes: TinyVideoVAE = .demo,
    initial: [(key: String, tensor: Tensor)], measuredClips: Int = 4, seed: UInt64
  ) throws {
    (self.sizes, self.part) = (sizes, part)
    clips = VideoClips(seed: RandomSeed.mix(seed, "clips"))
    weights = try TrainableWeights(
      initial, config: "{\"vae\": \(sizes.config)}", scope: Checkpoint.Prefix.videoVAE,
      isFrozen: { $0.contains(Self.statisticsScope) || !part.trains($0) })
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
  public static func initialTensors(
    _ sizes: TinyVideoVAE = .demo, seed: UInt64
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

  // MARK: Training

  public var parameters: [Parameter] { weights.parameters }

  public var fingerprint: String {
    "video VAE \(part.rawValue) \(sizes.config.split(whereSeparator: \.isWhitespace).joined())"
  }

  public func loss(step: Int, seed: UInt64) throws -> StageLoss {
    let batch = try batch(step: step, seed: seed)
    switch part {
    case .encoderWindows, .encoder:
      let error = try latentError(encoder(batch.pixels), batch.latent)
      return StageLoss(error.total, parts: [("squared", error.squared)])
    case .decoderWindows, .decoder:
      return try pixelLoss(decoder.decode(noisy(batch.latent, seed)), batch.pixels)
    case .both:
      let latent = try encoder(batch.pixels)
      let error = try latentError(latent, batch.latent).total
      let loss = try pixelLoss(decoder.decode(noisy(latent, seed)), batch.pixels)
      return StageLoss(
        try loss.total + error, parts: loss.parts + [("latent", error)])
    case .finish:
      let latent = try encoder(batch.pixels)
      let error = try latentError(latent, batch.latent).total
      let squared = try (decoder.decode(noisy(latent, seed)) - batch.pixels).square().mean()
      return StageLoss(
        try squared * Self.squaredWeight + error, parts: [("squared", squared), ("latent", error)])
    }
  }

  private func batch(step: Int, seed: UInt64) throws -> (pixels: Tensor, latent: Tensor) {
    let kind = RandomSeed.mix(seed, "kind")
    let windows: [VideoClips.Window]
    let scenes: [DemoScene]
    if part.hasWholeFrames(step: step) {
      // A whole clip, or two that are as short as windows.
      let isShort = kind % 2 == 0
      scenes = clips.scenes(isShort ? 2 : 1, seed: seed)
      windows = scenes.map { _ in isShort ? .frames(number: kind >> 1) : .whole }
    } else {
      scenes = clips.scenes(Self.windows, seed: seed)
      windows = scenes.enumerated().map { index, scene in
        VideoClips.window(scene, seed: RandomSeed.mix(seed, "clip", index))
      }
    }
    let latents = try zip(scenes, windows).map { try SceneLatents.latent($0, $1) }
    return (try VideoClips.pixels(scenes, windows), try Tensor.stack(latents))
  }

  private func noisy(_ latent: Tensor, _ seed: UInt64) throws -> Tensor {
    let noise = try Generator(seed: RandomSeed.mix(seed, "noise")).normal(latent.shape)
    return try latent + noise * Self.noise
  }

  private func latentError(
    _ latent: Tensor, _ wanted: Tensor
  ) throws -> (total: Tensor, squared: Tensor) {
    let difference = try latent - wanted
    let squared = try difference.square().mean()
    return (try squared + difference.abs().mean(), squared)
  }

  private func pixelLoss(_ decoded: Tensor, _ pixels: Tensor) throws -> StageLoss {
    let difference = try decoded - pixels
    let distance = try (pixels - pixels.mean([3, 4], keepdim: true)).abs()
      .mean([1], keepdim: true)
    let weight = try distance * Self.foregroundWeight + 1
    let share = try weight / weight.mean()
    let squared = try (difference.square() * share).mean()
    let absolute = try (difference.abs() * share).mean()
    return StageLoss(
      try squared + absolute,
      parts: [("squared", try difference.square().mean()), ("absolute", absolute)])
  }

  public func evaluate() throws -> [StageMetric] {
    try heldOut.map { style, scenes in
      let values = try scenes.map { scene in
        let pixels = try VideoClips.clip(scene)
        switch part {
        case .encoderWindows, .encoder:
          let wanted = try SceneLatents.latent(scene).unsqueeze(0)
          return try latentError(encoder(pixels), wanted).squared.item()
        case .decoderWindows, .decoder:
          let latent = try SceneLatents.latent(scene).unsqueeze(0)
          return try PeakSignal.decibels(decoder.decode(latent), pixels)
        case .both, .finish: return try PeakSignal.decibels(decoder.decode(encoder(pixels)), pixels)
        }
      }
      let name = part == .encoder || part == .encoderWindows ? "latent_error" : "psnr"
      return StageMetric(
        "\(name)_\(style.rawValue)", values.reduce(0, +) / Double(scenes.count))
    }
  }

  // MARK: Result

  /// All tensors of the VAE, with the averages of this part.
  public func tensors(
    _ stage: Stage<VideoVAEModel>
  ) throws -> [(key: String, tensor: Tensor)] { try weights.tensors(stage.averaged) }

  /// Writes the checkpoint of the VAE, with the statistics of the latents of training clips.
  ///
  /// - Parameter stage: The stage of this model, whose averaged weights are written.
  public func write(_ stage: Stage<VideoVAEModel>, to path: String) throws {
    let statistics = try latentStatistics()
    let scope = "\(Checkpoint.Prefix.videoVAE).\(Self.statisticsScope)"
    try weights.write(
      stage.averaged,
      replacing: [
        "\(scope).mean-of-means": statistics.mean, "\(scope).std-of-means": statistics.std,
      ], metadata: ["model_version": "2.3.0"], to: path)
  }

  /// The statistics of the given latents, so that they don't depend on what the encoder has learned.
  private func latentStatistics() throws -> ChannelStatistics {
    let scenes = clips.scenes(Self.statisticsClips, seed: RandomSeed.mix(clips.seed, "statistics"))
    let values = try Tensor.cat(
      scenes.map { try SceneLatents.latent($0).flatten(from: 1).to(.float64) }, 1)
    return ChannelStatistics(
      mean: try values.mean([1]).to(.float32), std: try values.std([1]).to(.float32))
  }
}
