// B batch, T latent frames, Z latent channels, F latent frequencies, T' spectrogram frames, M mel
// frequencies.

import NN
import Support
import Torch

/// Decodes normalized latents to log-mel spectrograms, which a `Vocoder` turns into audio
/// (ltx-core, `audio_vae/audio_vae.py`).
public struct AudioDecoder: Sendable {
  public let configuration: AudioVAEConfiguration
  private let statistics: AudioStatistics
  private let convolutionIn: SpectrogramConvolution
  private let middle: AudioVAEMiddle
  /// In the order of execution, the coarsest first.
  private let levels: [(level: AudioVAELevel, upsampling: SpectrogramUpsampling?)]
  private let normOut: AudioVAENorm
  private let convolutionOut: SpectrogramConvolution

  /// - Parameter w: The scope of the VAE, which holds `decoder` and `per_channel_statistics`.
  /// - Throws: `WeightError` if the checkpoint doesn't fit the configuration.
  public init(_ w: Weights, configuration: AudioVAEConfiguration) throws {
    self.configuration = configuration
    statistics = try AudioStatistics(w, configuration: configuration)
    let w = w / "decoder"
    let axis = configuration.causalAxis
    let widths = configuration.widths
    let deepest = widths[widths.count - 1]
    convolutionIn = try SpectrogramConvolution(
      w / "conv_in", inputs: configuration.latentChannels, outputs: deepest, causalAxis: axis)
    middle = try AudioVAEMiddle(
      w / "mid", channels: deepest, hasAttention: configuration.decoderMiddleHasAttention,
      configuration: configuration)
    levels = try widths.enumerated().reversed().map { index, width in
      let place = w / "up" / index
      let level = try AudioVAELevel(
        place, inputs: index == widths.count - 1 ? deepest : widths[index + 1], outputs: width,
        layers: configuration.residualBlocks + 1,
        hasAttention: configuration.decoderAttentionLevels.contains(index),
        configuration: configuration)
      return (
        level,
        index == 0
          ? nil : try SpectrogramUpsampling(place / "upsample", channels: width, causalAxis: axis)
      )
    }
    normOut = try AudioVAENorm(w / "norm_out", channels: widths[0], kind: configuration.norm)
    convolutionOut = try SpectrogramConvolution(
      w / "conv_out", inputs: widths[0], outputs: configuration.audioChannels, causalAxis: axis)
    try w.requireAllUsed()
  }

  /// - Parameter latent: The normalized latent, [B, Z, T, F].
  /// - Returns: The log-mel spectrogram [B, 2, T', M]; T' = compression * (T - 1) + 1 for a causal
  ///   model.
  /// - Throws: `Issue` for a latent of another shape.
  public func callAsFunction(_ latent: Tensor) throws -> Tensor {
    let shape = latent.shape
    let (channels, bins) = (configuration.latentChannels, configuration.frequencyBins)
    guard shape.count == 4, shape[1] == channels, shape[3] == bins, shape.allSatisfy({ $0 > 0 })
    else {
      throw Issue.shape(
        "audio latent", shape, expected: "[batch, \(channels), frames, \(bins)]")
    }
    let z = try statistics.denormalize(latent.to(convolutionIn.device, convolutionIn.dtype))
    var x = try middle(convolutionIn(z.permute([0, 2, 3, 1]).contiguous()))
    for (level, upsampling) in levels {
      x = try level(x)
      if let upsampling { x = try upsampling(x) }
    }
    let mel = try convolutionOut(normOut(x).silu()).permute([0, 3, 1, 2])
    return try fitted(mel, frames: configuration.spectrogramFrames(shape[2])).contiguous()
  }

  /// Cuts the spectrogram or pads it with zeros, which only a model needs that is causal along the
  /// frequencies or not at all.
  private func fitted(_ mel: Tensor, frames: Int) throws -> Tensor {
    let bins = configuration.melBins
    let cut = try mel.slice(2, to: frames).slice(3, to: bins)
    let (missingFrames, missingBins) = (frames - cut.size(2), bins - cut.size(3))
    guard missingFrames > 0 || missingBins > 0 else { return cut }
    return try cut.pad([0, missingBins, 0, missingFrames])
  }
}
