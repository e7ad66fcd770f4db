import NN

/// The sizes of an audio tower, from `audio_config` of Qwen2.5-Omni or Qwen3-Omni.
public struct AudioConfiguration: Sendable {
  public let family: QwenOmniFamily
  public let width: Int
  /// The number of layers.
  public let depth: Int
  public let heads: Int
  public let feedForwardWidth: Int
  /// The width of the language model's embeddings.
  public let outputWidth: Int
  public let melBins: Int
  /// The number of frames of the spectrogram that are encoded together, with positions of their
  /// own.
  public let chunkFrames: Int
  /// The number of chunks that attend to each other.
  public let chunksPerWindow: Int
  /// Qwen3-Omni: the number of channels of the convolutions.
  public let channels: Int

  /// - Throws: `Issue` for a value that is missing, of the wrong type, invalid, or not supported.
  public init(_ c: Configuration, family: QwenOmniFamily) throws {
    self.family = family
    width = try c.positive("d_model")
    depth = try c.positive("encoder_layers", upTo: Configuration.maxLayers)
    heads = try c.positive("encoder_attention_heads", upTo: 4096)
    feedForwardWidth = try c.positive("encoder_ffn_dim")
    outputWidth = try c.positive("output_dim")
    melBins = try c.positive("num_mel_bins", default: 128, upTo: 4096)
    chunkFrames =
      2 * (try c.positive("n_window", default: family == .qwen25 ? 100 : 50, upTo: 1 << 16))
    guard width.isMultiple(of: 2 * heads), width >= 4 else {
      throw c.error(
        "d_model",
        "is \(width), but \(heads) heads and pairs of sines and cosines need a multiple of "
          + "\(2 * heads) from 4 on")
    }
    let activation = try c.string("activation_function", default: "gelu")
    guard activation == "gelu" else {
      throw c.error("activation_function", "is \"\(activation)\"; only gelu is supported")
    }
    guard try !c.bool("scale_embedding", default: false) else {
      throw c.error("scale_embedding", "is true; only false is supported")
    }
    switch family {
    case .qwen25:
      (chunksPerWindow, channels) = (1, 0)
    case .qwen3:
      channels = try c.positive("downsample_hidden_size")
      let window = try c.positive("n_window_infer", default: 800)
      chunksPerWindow = window / chunkFrames
      guard chunksPerWindow > 0 else {
        throw c.error(
          "n_window_infer",
          "is \(window), but a window holds at least one chunk of \(chunkFrames) frames")
      }
    }
  }

  /// The number of tokens that the convolutions make from the frames of one chunk.
  func convolved(_ frames: Int) -> Int {
    guard frames > 0 else { return 0 }
    func halved(_ count: Int) -> Int { (count + 1) / 2 }
    switch family {
    case .qwen25: return halved(frames)
    case .qwen3: return halved(halved(halved(frames)))
    }
  }

  /// The numbers of frames of the chunks of a spectrogram.
  func chunks(of frames: Int) -> [Int] {
    let rest = frames % chunkFrames
    return Array(repeating: chunkFrames, count: frames / chunkFrames) + (rest > 0 ? [rest] : [])
  }

  /// The number of the language model's tokens for a spectrogram of a number of frames. In
  /// Qwen2.5-Omni, one or two frames have no token.
  public func tokens(ofFrames frames: Int) -> Int {
    let encoded = chunks(of: frames).reduce(0) { $0 + convolved($1) }
    return family == .qwen25 ? encoded / 2 : encoded
  }
}
