import NN
import Torch

/// The sizes and variants of the audio-video transformer, from `config.transformer` of the
/// checkpoint's metadata.
///
/// Defaults are those of upstream (ltx-core, `model/transformer/model_configurator.py`).
public struct TransformerConfiguration: Sendable {
  /// The sizes of one modality.
  public struct Sizes: Sendable {
    public let heads: Int
    public let headWidth: Int
    /// The latent channels of input and output.
    public let inputs: Int
    public let outputs: Int
    /// The width of the text context in the blocks.
    public let contextWidth: Int
    /// The max position of each axis: seconds, then pixels.
    public let maxPositions: [Double]
    /// LTX-2.5 has none in the video's feed-forward layers.
    public let feedForwardBias: Bool

    public var width: Int { heads * headWidth }
  }

  public let blocks: Int
  public let sizes: PerModality<Sizes>
  /// The width that cross-modal attention spreads its rotary frequencies over.
  public let crossWidth: Int
  public let normEps: Double
  public let rope: RotaryEmbedding.Layout
  public let ropeTheta: Double
  /// Whether the rotary frequencies are computed in float64 before they are rounded to float32.
  public let hasDoublePrecisionFrequencies: Bool
  public let timestepScale: Double
  public let crossTimestepScale: Double
  /// LTX-2.3: a gate per attention head.
  public let hasGatedAttention: Bool
  /// LTX-2.3: text cross-attention is modulated by the timestep too.
  public let hasPromptModulation: Bool
  /// Whether the modulation of the text depends on sigma. Otherwise it is a table in each block.
  public let hasPromptAdaLN: Bool
  /// LTX-2.5: a learned vector marks the video tokens that show a single pixel frame.
  public let hasKeyframeEmbedding: Bool
  /// LTX-2: text features are projected to the modalities' widths inside the transformer. Nil for a
  /// checkpoint that projects them earlier.
  public let captionChannels: Int?

  /// The key of the keyframe embedding below the transformer.
  static let keyframeEmbeddingKey = "keyframes_abs_pos_embedding"
  /// The max number of attention heads, and their max width.
  static let (maxHeads, maxHeadWidth) = (4096, 4096)

  /// - Parameter config: The complete `config` of the checkpoint.
  /// - Throws: `Issue` for a value that is missing, of the wrong type, out of range, or not
  ///   supported.
  public init(_ config: Configuration) throws {
    let c = try config.object("transformer")
    try Self.requireSupported(c)
    blocks = try c.positive("num_layers", default: 48, upTo: Configuration.maxLayers)
    let video = Sizes(
      heads: try c.positive("num_attention_heads", default: 32, upTo: Self.maxHeads),
      headWidth: try c.positive("attention_head_dim", default: 128, upTo: Self.maxHeadWidth),
      inputs: try c.positive("in_channels", default: 128),
      outputs: try c.positive("out_channels", default: 128),
      contextWidth: try c.positive("cross_attention_dim", default: 4096),
      maxPositions: try c.ints(
        "positional_embedding_max_pos", default: [20, 2048, 2048], in: 1...Configuration.maxSize
      ).map(Double.init),
      feedForwardBias: try c.bool("ff_bias", default: true))
    let audio = Sizes(
      heads: try c.positive("audio_num_attention_heads", default: 32, upTo: Self.maxHeads),
      headWidth: try c.positive("audio_attention_head_dim", default: 64, upTo: Self.maxHeadWidth),
      inputs: try c.positive("audio_in_channels", default: 128),
      outputs: try c.positive("audio_out_channels", default: 128),
      contextWidth: try c.positive("audio_cross_attention_dim", default: 2048),
      maxPositions: try c.ints(
        "audio_positional_embedding_max_pos", default: [20], in: 1...Configuration.maxSize
      ).map(Double.init),
      feedForwardBias: try c.bool("audio_ff_bias", default: true))
    sizes = PerModality(video: video, audio: audio)
    crossWidth = audio.contextWidth
    normEps = try c.double("norm_eps", default: 1e-6, in: 0...1)
    let layout = try c.string("rope_type", default: "split")
    guard let rope = RotaryEmbedding.Layout(rawValue: layout) else {
      throw c.error("rope_type", "is \"\(layout)\"; expected split or interleaved")
    }
    self.rope = rope
    ropeTheta = try c.positiveDouble("positional_embedding_theta", default: 10000)
    hasDoublePrecisionFrequencies =
      try c.string("frequencies_precision", default: "float32") == "float64"
    timestepScale = try c.double("timestep_scale_multiplier", default: 1000)
    crossTimestepScale = try c.double("av_ca_timestep_scale_multiplier", default: 1)
    hasGatedAttention = try c.bool("apply_gated_attention", default: false)
    hasPromptModulation = try c.bool("cross_attention_adaln", default: false)
    hasPromptAdaLN = try c.bool("use_prompt_adaln_single", default: true)
    hasKeyframeEmbedding = try c.bool("use_keyframes_abs_pos_embedding", default: false)
    captionChannels =
      try c.bool("caption_proj_before_connector", default: false)
      ? nil : try c.positive("caption_channels")
    for (name, sizes) in [("num_attention_heads", video), ("audio_num_attention_heads", audio)] {
      guard sizes.headWidth.isMultiple(of: 2) else {
        throw c.error(
          name.replacing("num_attention_heads", with: "attention_head_dim"),
          "must be even (got \(sizes.headWidth))")
      }
    }
    guard video.maxPositions.count == 3, audio.maxPositions.count == 1 else {
      throw c.error("positional_embedding_max_pos", "must have 3 entries for video and 1 for audio")
    }
  }

  /// Variants that no published LTX-2 checkpoint uses and that aren't implemented here.
  private static func requireSupported(_ c: Configuration) throws {
    let strings = [
      ("activation_fn", "gelu-approximate"), ("standardization_norm", "rms_norm"),
      ("qk_norm", "rms_norm"),
      ("positional_embedding_type", "rope"),
    ]
    for (key, value) in strings {
      let found = try c.string(key, default: value)
      guard found == value else {
        throw c.error(key, "is \"\(found)\"; only \"\(value)\" is supported")
      }
    }
    let flags = [
      ("attention_bias", true), ("cross_attention_norm", true), ("norm_elementwise_affine", false),
      ("only_cross_attention", false), ("double_self_attention", false), ("share_ff", false),
      ("use_audio_video_cross_attention", true), ("av_cross_ada_norm", true),
      ("use_middle_indices_grid", true), ("upcast_attention", false),
      ("use_linear_projection", false),
    ]
    for (key, value) in flags {
      guard try c.bool(key, default: value) == value else {
        throw c.error(key, "is \(!value); only \(value) is supported")
      }
    }
    for (key, value) in [("dropout", 0.0), ("num_embeds_ada_norm", 1000.0)] {
      let found = try c.double(key, default: value)
      guard found == value else { throw c.error(key, "is \(found); only \(value) is supported") }
    }
    guard !c.has("num_vector_embeds") else {
      throw c.error(
        "num_vector_embeds", "is set; models of vector-quantized latents are not supported")
    }
  }
}

extension TransformerConfiguration {
  /// The kinds of attention that rotate their queries and keys.
  public enum RotatedAttention: Int, Sendable {
    case video, audio
    /// Attention between the modalities, over time only.
    case crossModal
  }

  /// The tables for one kind of attention.
  ///
  /// - Parameter positions: [B, A, T, 2]; for cross-modal attention only the time axis, [B, 1, T,
  ///   2].
  public func rotaryEmbedding(
    _ attention: RotatedAttention, positions: Tensor, dtype: DType
  ) throws -> RotaryEmbedding {
    let (width, heads, maxPositions) =
      switch attention {
      case .video: (sizes.video.width, sizes.video.heads, sizes.video.maxPositions)
      case .audio: (sizes.audio.width, sizes.audio.heads, sizes.audio.maxPositions)
      case .crossModal:
        (
          crossWidth, sizes.audio.heads,
          [max(sizes.video.maxPositions[0], sizes.audio.maxPositions[0])]
        )
      }
    return try RotaryEmbedding(
      positions: positions, width: width, heads: heads, maxPositions: maxPositions,
      theta: ropeTheta,
      isDoublePrecision: hasDoublePrecisionFrequencies, layout: rope, dtype: dtype)
  }
}
