import NN

/// The shape of an audio VAE and of the spectrogram that it works on, from `config.audio_vae` of a
/// checkpoint (ltx-core, `audio_vae/model_configurator.py`).
public struct AudioVAEConfiguration: Sendable, Equatable {
  /// The divisor of the features at a position: their own root mean square, or that of groups of
  /// channels.
  public enum Norm: String, Sendable, CaseIterable { case pixel, group }

  /// The axis of the spectrogram along which a convolution sees only earlier entries: rows are
  /// times, columns frequencies.
  public enum CausalAxis: String, Sendable, CaseIterable {
    case none
    case time = "height"
    case frequency = "width"
    case frequencyCompatible = "width-compatibility"
  }

  // MARK: The spectrogram

  /// Samples per second of the spectrogram's input.
  public var sampleRate: Int
  /// Samples from one spectrogram frame to the next.
  public var hopLength: Int
  /// The number of samples that one spectrogram frame is computed from.
  public var fftLength: Int
  /// The number of the spectrogram's frequencies.
  public var melBins: Int
  /// The channels of the spectrogram and of the audio: 2 for stereo.
  public var audioChannels: Int

  // MARK: The coders

  /// The latent's channels.
  public var latentChannels: Int
  public var norm: Norm
  public var causalAxis: CausalAxis
  /// Channels of the features at each level, the finest first.
  public var widths: [Int]
  /// Channels before the first level.
  public var baseWidth: Int
  public var residualBlocks: Int
  /// Levels whose residual blocks are each followed by attention.
  public var encoderAttentionLevels: Set<Int>
  public var decoderAttentionLevels: Set<Int>
  public var encoderMiddleHasAttention: Bool
  public var decoderMiddleHasAttention: Bool
  /// Whether each spectrogram frame depends on earlier audio only; decides where latent frames lie
  /// in time.
  public var isCausalInTime: Bool

  /// The number of spectrogram frames per latent frame.
  public var compression: Int { 1 << (widths.count - 1) }

  /// The number of the latent's frequencies.
  public var frequencyBins: Int {
    (1..<widths.count).reduce(melBins) { bins, _ in
      causalAxis == .frequency ? (bins + 1) / 2 : bins / 2
    }
  }

  /// The positions of latent frames in time.
  public var tokens: AudioTokens {
    var tokens = AudioTokens()
    tokens.sampleRate = sampleRate
    tokens.hopLength = hopLength
    tokens.compression = compression
    return tokens
  }

  /// The number of spectrogram frames that a latent of `frames` decodes to.
  public func spectrogramFrames(_ frames: Int) -> Int {
    causalAxis == .none ? frames * compression : max(frames * compression - (compression - 1), 1)
  }
}

extension AudioVAEConfiguration {
  /// The max window of a spectrogram frame in samples, and the max number of frequencies: tables of
  /// their product are allocated.
  static let (maxWindow, maxMelBins) = (1 << 16, 1 << 12)

  /// - Parameter config: The complete `config` of the checkpoint.
  /// - Throws: `Issue` for a value that is missing, of the wrong type, or not supported.
  public init(_ config: Configuration) throws {
    let audio = try config.object("audio_vae")
    let params = try audio.object("model", isOptional: true).object("params", isOptional: true)
    let c = try params.object("ddconfig", isOptional: true)
    let preprocessing = try audio.object("preprocessing", isOptional: true)
    let stft = try preprocessing.object("stft", isOptional: true)
    let mel = try preprocessing.object("mel", isOptional: true)
    let variables = try audio.object("variables", isOptional: true)

    sampleRate = try params.positive("sampling_rate", default: 16000)
    hopLength = try stft.positive("hop_length", default: 160, upTo: Self.maxWindow)
    fftLength = try stft.positive("filter_length", default: 1024, upTo: Self.maxWindow)
    isCausalInTime = try stft.bool("causal", default: true)
    guard fftLength.isMultiple(of: 2) else {
      throw stft.error("filter_length", "is \(fftLength); it must be even")
    }
    if c.has("mel_bins") {
      melBins = try c.positive("mel_bins", upTo: Self.maxMelBins)
    } else if mel.has("n_mel_channels") {
      melBins = try mel.positive("n_mel_channels", upTo: Self.maxMelBins)
    } else if variables.has("mel_bins") {
      melBins = try variables.positive("mel_bins", upTo: Self.maxMelBins)
    } else {
      throw c.error(
        "mel_bins", "is missing, so the number of the spectrogram's frequencies is unknown")
    }

    audioChannels = try c.positive("in_channels", default: 2, upTo: 64)
    let outputs = try c.positive("out_ch", default: 2)
    guard outputs == audioChannels else {
      throw c.error(
        "out_ch", "is \(outputs), but in_channels is \(audioChannels); they must be equal")
    }
    latentChannels = try c.positive("z_channels", default: 8)
    baseWidth = try c.positive("ch", default: 128)
    residualBlocks = try c.positive("num_res_blocks", default: 2, upTo: Configuration.maxLayers)
    let multipliers = try c.ints("ch_mult", default: [1, 2, 4], in: 1...1024, count: 1...8)
    let baseWidth = baseWidth
    widths = multipliers.map { $0 * baseWidth }

    norm = try c.choice("norm_type", default: .pixel)
    causalAxis = c.isNull("causality_axis") ? .none : try c.choice("causality_axis", default: .time)
    if norm == .group {
      guard causalAxis == .none else {
        throw c.error(
          "norm_type", "is \"group\", which would let a causal convolution see what comes later")
      }
      guard (widths + [baseWidth]).allSatisfy({ $0.isMultiple(of: 32) }) else {
        throw c.error(
          "norm_type", "is \"group\", whose 32 groups can't share \(widths) channels evenly")
      }
    }

    let attention = try c.string("attn_type", default: "vanilla")
    guard attention == "vanilla" || attention == "none" else {
      throw c.error("attn_type", "is \"\(attention)\"; only vanilla and none are supported")
    }
    let resolutions = Set(try c.ints("attn_resolutions", default: [8, 16, 32]))
    let resolution = try c.positive("resolution", default: 256)
    let hasMiddle = try c.bool("mid_block_add_attention", default: true)
    let last = widths.count - 1
    // Either coder counts resolutions from its own end.
    let decoderLevels = (0...last).filter {
      resolutions.contains((resolution >> last) << (last - $0))
    }
    let encoderLevels = (0...last).filter { resolutions.contains(resolution >> $0) }
    encoderAttentionLevels = attention == "vanilla" ? Set(encoderLevels) : []
    decoderAttentionLevels = Set(decoderLevels)
    encoderMiddleHasAttention = hasMiddle && attention == "vanilla"
    decoderMiddleHasAttention = hasMiddle

    guard try c.bool("double_z", default: true) else {
      throw c.error(
        "double_z", "is false; only an encoder that gives means and variances is supported")
    }
    guard try c.bool("resamp_with_conv", default: true) else {
      throw c.error("resamp_with_conv", "is false; only downsampling by convolutions is supported")
    }
    guard frequencyBins > 0, latentChannels * frequencyBins == baseWidth else {
      throw c.error(
        "ch",
        "is \(baseWidth), but it is also the number of statistics, one for each of \(latentChannels) latent channels "
          + "and \(frequencyBins) frequencies")
    }
  }
}
