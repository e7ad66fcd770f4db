// B batch, N samples, T spectrogram frames, T' latent frames, Z latent channels, M mel and F latent
// frequencies.

import NN
import Support
import Torch

/// Encodes audio to normalized latents, by way of a log-mel spectrogram (ltx-core,
/// `audio_vae/audio_vae.py`).
public struct AudioEncoder: Sendable {
  public let configuration: AudioVAEConfiguration
  private let logMel: LogMelSpectrogram
  private let statistics: AudioStatistics
  private let convolutionIn: SpectrogramConvolution
  private let levels: [(level: AudioVAELevel, downsampling: SpectrogramDownsampling?)]
  private let middle: AudioVAEMiddle
  private let normOut: AudioVAENorm
  private let convolutionOut: SpectrogramConvolution

  /// - Parameter w: The scope of the VAE, which holds `encoder` and `per_channel_statistics`.
  /// - Throws: `WeightError` if the checkpoint doesn't fit the configuration.
  public init(_ w: Weights, configuration: AudioVAEConfiguration) throws {
    self.configuration = configuration
    statistics = try AudioStatistics(w, configuration: configuration)
    let w = w / "encoder"
    let axis = configuration.causalAxis
    convolutionIn = try SpectrogramConvolution(
      w / "conv_in", inputs: configuration.audioChannels, outputs: configuration.baseWidth,
      causalAxis: axis)
    logMel = try LogMelSpectrogram(configuration, device: convolutionIn.device)
    let widths = configuration.widths
    levels = try widths.enumerated().map { index, width in
      let place = w / "down" / index
      let level = try AudioVAELevel(
        place, inputs: index == 0 ? configuration.baseWidth : widths[index - 1], outputs: width,
        layers: configuration.residualBlocks,
        hasAttention: configuration.encoderAttentionLevels.contains(index),
        configuration: configuration)
      let isLast = index == widths.count - 1
      return (
        level,
        isLast
          ? nil
          : try SpectrogramDownsampling(place / "downsample", channels: width, causalAxis: axis)
      )
    }
    let deepest = widths[widths.count - 1]
    middle = try AudioVAEMiddle(
      w / "mid", channels: deepest, hasAttention: configuration.encoderMiddleHasAttention,
      configuration: configuration)
    normOut = try AudioVAENorm(w / "norm_out", channels: deepest, kind: configuration.norm)
    // The channels of the variance are not computed.
    convolutionOut = try SpectrogramConvolution(
      w / "conv_out", inputs: deepest, outputs: 2 * configuration.latentChannels,
      keeping: configuration.latentChannels, causalAxis: axis)
    try w.requireAllUsed()
  }

  /// The log-mel spectrogram of a waveform, in float32 regardless of the encoder's dtype.
  ///
  /// - Parameters:
  ///   - waveform: [B, 2, N] from -1 to 1; a single channel is used for both.
  ///   - sampleRate: The waveform's rate; resampled if it isn't the model's.
  /// - Returns: [B, 2, T, M]; T = 1 + N / hop, with N at the model's rate.
  /// - Throws: `Issue` for a waveform of another shape, without samples, or shorter than half a
  ///   window.
  public func spectrogram(_ waveform: Tensor, sampleRate: Int) throws -> Tensor {
    let shape = waveform.shape
    let channels = configuration.audioChannels
    guard shape.count == 3, shape[0] > 0, shape[1] == 1 || shape[1] == channels else {
      throw Issue.shape("waveform", shape, expected: "[batch, \(channels) or 1, samples]")
    }
    let mel = try logMel(waveform, sampleRate: sampleRate)
    return shape[1] == channels ? mel : try mel.repeated([1, channels, 1, 1])
  }

  /// - Parameter mel: A log-mel spectrogram [B, 2, T, M].
  /// - Returns: The normalized latent [B, Z, T', F]; T' = ceil(T / compression) for a model that is
  ///   causal in time.
  /// - Throws: `Issue` for a spectrogram of another shape.
  public func encode(_ mel: Tensor) throws -> Tensor {
    let shape = mel.shape
    guard shape.count == 4, shape[1] == configuration.audioChannels,
      shape[3] == configuration.melBins,
      shape.allSatisfy({ $0 > 0 })
    else {
      throw Issue.shape(
        "spectrogram", shape,
        expected: "[batch, \(configuration.audioChannels), frames, \(configuration.melBins)]")
    }
    var x = try convolutionIn(
      mel.to(convolutionIn.device, convolutionIn.dtype).permute([0, 2, 3, 1]).contiguous())
    for (level, downsampling) in levels {
      x = try level(x)
      if let downsampling { x = try downsampling(x) }
    }
    let means = try convolutionOut(normOut(middle(x)).silu())
    return try statistics.normalize(means.permute([0, 3, 1, 2])).contiguous()
  }

  /// The normalized latent [B, Z, T', F] of a waveform; parameters as in `spectrogram`.
  public func callAsFunction(_ waveform: Tensor, sampleRate: Int) throws -> Tensor {
    try encode(spectrogram(waveform, sampleRate: sampleRate))
  }
}
