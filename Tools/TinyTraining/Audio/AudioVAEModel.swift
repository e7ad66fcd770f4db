// B clips, Z latent channels, T' latent frames, F latent frequencies.

import DemoData
import Foundation
import LTX
import NN
import Support
import Torch

/// The audio VAE in training: spectrograms of tones through a noisy latent.
///
/// The noise is a share of each latent element's own deviation. It takes the place of the
/// variational term: the decoder learns to read latents that a transformer gets slightly wrong.
public final class AudioVAEModel: StageModel {
  /// The deviation of the latent's noise, relative to the latent's own.
  static let noise = 0.15
  /// The middle and the deviation of log-mel values.
  static let (meanLevel, deviation) = (-8.0, 3.0)

  public let weights: TrainableWeights
  private let encoder: AudioEncoder
  private let decoder: AudioDecoder
  private let scenes: ToneScenes
  private let batch: Int
  private let heldOut: Tensor

  static var layout: TinyAudioVAE {
    var layout = TinyAudioVAE(latentChannels: 2)
    (layout.multipliers, layout.layers) = ([1, 1, 2], 1)
    return layout
  }

  static var config: String { "{\"audio_vae\": \(layout.config)}" }

  public convenience init(seed: UInt64) throws { try self.init(seed: seed, batch: 4, heldOut: 24) }

  /// - Parameters:
  ///   - batch: The clips of a step.
  ///   - heldOut: The clips of an evaluation.
  init(seed: UInt64, batch: Int, heldOut count: Int) throws {
    weights = try TrainableWeights(
      Self.initial(seed), config: Self.config, scope: Checkpoint.Prefix.audioVAE
    ) { $0.contains("per_channel_statistics") }
    let configuration = try AudioVAEConfiguration(weights.configuration)
    let scope = weights.root / Checkpoint.Prefix.audioVAE
    encoder = try AudioEncoder(scope, configuration: configuration)
    decoder = try AudioDecoder(scope, configuration: configuration)
    scenes = ToneScenes(seed: seed)
    self.batch = batch
    let tones = try ToneBatch(ToneScenes(seed: seed, part: .heldOut).scenes(count, draw: seed))
    heldOut = try Self.spectrograms(tones.waveforms, encoder)
  }

  /// The initial tensors. Statistics that change nothing: those of the latents are measured at the
  /// end.
  private static func initial(_ seed: UInt64) throws -> [(key: String, tensor: Tensor)] {
    let drawn = RandomWeights.Drawn(
      try Generator(seed: RandomSeed.mix(seed, "audio VAE")), purpose: .training)
    try layout.draw(RandomWeights(into: drawn) / Checkpoint.Prefix.audioVAE, .ltx23)
    return try drawn.tensors.map { key, tensor in
      switch String(key.dropFirst(Checkpoint.Prefix.audioVAE.count + 1)) {
      case "per_channel_statistics.mean-of-means": return (key, try .zeros(like: tensor))
      case "per_channel_statistics.std-of-means":
        return (key, try .ones(tensor.shape, dtype: tensor.dtype))
      case "encoder.conv_in.conv.weight": return (key, try tensor / deviation)
      case "decoder.conv_out.conv.weight": return (key, try tensor * deviation)
      case "decoder.conv_out.conv.bias":
        return (key, try .full(tensor.shape, Scalar(meanLevel), dtype: tensor.dtype))
      default: return (key, tensor)
      }
    }
  }

  public var parameters: [Parameter] { weights.parameters }

  public var fingerprint: String {
    "audio VAE \(Self.layout.multipliers), \(Self.layout.layers) layers, batch \(batch), "
      + "noise \(Self.noise)"
  }

  private static func spectrograms(_ waveforms: Tensor, _ encoder: AudioEncoder) throws -> Tensor {
    try withoutGrad { try encoder.spectrogram(waveforms, sampleRate: ToneBatch.sampleRate) }
  }

  public func loss(step: Int, seed: UInt64) throws -> StageLoss {
    let generator = try Generator(seed: seed)
    let tones = try ToneBatch(scenes.scenes(batch, draw: seed))
    let mel = try Self.spectrograms(tones.noisyWaveforms(generator), encoder)
    let latent = try encoder.encode(mel)
    let spread = try latent.detach().std([0, 2], correction: 0, keepdim: true)
    let noisy = try latent + generator.normal(latent.shape) * spread * Self.noise
    let decoded = try decoder(noisy)
    let error = try Self.error(decoded, mel)
    // Keeps the latent's scale from drifting, which nothing else depends on.
    let scale = try (latent.square().mean([0, 2]) - 1).square().mean()
    return StageLoss(
      try error + scale * 0.01, parts: [("error", error), ("scale", scale)])
  }

  /// The mean absolute error of log-mel values; loud ones count four times.
  private static func error(_ decoded: Tensor, _ mel: Tensor) throws -> Tensor {
    let weight = try (mel + 5).sigmoid() * 3 + 1
    return try ((decoded - mel).abs() * weight).sum() / weight.sum()
  }

  public func evaluate() throws -> [StageMetric] {
    let latent = try encoder.encode(heldOut)
    let decoded = try decoder(latent)
    let spread = try latent.std([0, 2], correction: 0, keepdim: true)
    let generator = try Generator(seed: 1)
    let noisy = try decoder(latent + generator.normal(latent.shape) * spread * Self.noise)
    return [
      StageMetric("held_out_error", try Self.error(decoded, heldOut).item()),
      StageMetric("held_out_error_with_noise", try Self.error(noisy, heldOut).item()),
      StageMetric(
        "held_out_level_error", try ((decoded - heldOut).abs()).mean().item()),
      StageMetric("smallest_deviation", try spread.min().item()),
      StageMetric("largest_deviation", try spread.max().item()),
    ]
  }

  /// Writes the trained VAE, with the statistics of latents of training clips.
  ///
  /// - Parameter values: The trained tensors, which must be those that the model has now.
  public func write(_ values: [Parameter], clips: Int = 256, to path: String) throws {
    let latents = try (0..<clips / 16).map { part in
      let draw = RandomSeed.mix(scenes.seed, "statistics", part)
      let tones = try ToneBatch(scenes.scenes(16, draw: draw))
      let generator = try Generator(seed: draw)
      return try encoder.encode(
        Self.spectrograms(tones.noisyWaveforms(generator), encoder))
    }
    let all = try Tensor.cat(latents, 0)
    let statistics = "\(Checkpoint.Prefix.audioVAE).per_channel_statistics"
    // An element that hardly varies is not divided by almost 0.
    try weights.write(
      values,
      replacing: [
        "\(statistics).mean-of-means": all.mean([0, 2]).flatten(),
        "\(statistics).std-of-means": all.std([0, 2], correction: 0).clamped(min: 0.02).flatten(),
      ], to: path)
  }
}
