import LanguageModels
import NN

/// The text processing of a checkpoint, from `config.transformer` of its metadata.
///
/// Defaults are those of upstream (ltx-core, `text_encoders/gemma`).
public struct TextConfiguration: Sendable {
  /// The computation of features from the text encoder's hidden states.
  public enum Features: Sendable, Equatable {
    /// LTX-2: normalized over a complete prompt, one projection to the text encoder's width for
    /// both modalities.
    case shared
    /// LTX-2.3 and later: normalized token by token, a projection to the width of each modality.
    case perModality(video: Int, audio: Int)

    /// The names of the projections below `text_embedding_projection`.
    var projections: [String] {
      switch self {
      case .shared: ["aggregate_embed"]
      case .perModality: ["video_aggregate_embed", "audio_aggregate_embed"]
      }
    }
  }

  /// The sizes of one modality's connector.
  public struct Connector: Sendable {
    public let heads: Int
    public let headWidth: Int
    public let layers: Int
    /// The divisor of token indices for the rotary embedding.
    public let maxPosition: Double
    public let rope: RotaryEmbedding.Layout
    public let hasDoublePrecisionFrequencies: Bool
    public let isGated: Bool
    public let feedForwardBias: Bool

    public var width: Int { heads * headWidth }
  }

  public let features: Features
  public let connectors: PerModality<Connector>
  /// The tokens of every prompt: longer ones are truncated, shorter ones padded. Upstream's prompts
  /// have 1024; small models state fewer, which upstream ignores.
  public let promptTokens: Int

  /// - Parameter config: The complete `config` of the checkpoint.
  /// - Throws: `Issue` for a value that is missing, of the wrong type, or not supported.
  public init(_ config: Configuration) throws {
    let c = try config.object("transformer")
    features = try Self.features(c)
    promptTokens = try c.positive(
      "prompt_max_tokens", default: Tokenizer.promptLimit, upTo: Tokenizer.promptLimit)
    let video = try Self.connector(
      c,
      heads: c.positive(
        "connector_num_attention_heads", default: 30, upTo: TransformerConfiguration.maxHeads),
      headWidth: c.positive(
        "connector_attention_head_dim", default: 128, upTo: TransformerConfiguration.maxHeadWidth),
      layers: c.positive("connector_num_layers", default: 2, upTo: Configuration.maxLayers))
    // The audio connector's defaults are the video connector's values.
    let audio = try Self.connector(
      c,
      heads: c.positive(
        "audio_connector_num_attention_heads", default: video.heads,
        upTo: TransformerConfiguration.maxHeads),
      headWidth: c.positive(
        "audio_connector_attention_head_dim", default: video.headWidth,
        upTo: TransformerConfiguration.maxHeadWidth),
      layers: c.positive(
        "audio_connector_num_layers", default: video.layers, upTo: Configuration.maxLayers))
    connectors = PerModality(video: video, audio: audio)
    // Features go into the connectors unchanged, so widths must agree.
    if case .perModality(let videoWidth, let audioWidth) = features {
      guard video.width == videoWidth, audio.width == audioWidth else {
        throw c.error(
          "connector_num_attention_heads",
          "gives connectors of widths \(video.width) and \(audio.width), "
            + "expected the modalities' \(videoWidth) and \(audioWidth)"
        )
      }
    }
  }

  /// Four keys together mean that text is projected before the connectors. No checkpoint has only
  /// some of them.
  private static func features(_ c: Configuration) throws -> Features {
    let marks = [
      ("caption_proj_before_connector", true), ("caption_projection_first_linear", false),
      ("caption_proj_input_norm", false), ("caption_projection_second_linear", false),
    ]
    guard marks.contains(where: { c.has($0.0) }) else { return .shared }
    for (key, value) in marks {
      guard try c.bool(key) == value else {
        throw c.error(key, "must be \(value) if another of these keys is present (got \(!value))")
      }
    }
    func width(_ prefix: String, headWidth: Int) throws -> Int {
      try c.positive(
        "\(prefix)num_attention_heads", default: 32, upTo: TransformerConfiguration.maxHeads)
        * c.positive(
          "\(prefix)attention_head_dim", default: headWidth,
          upTo: TransformerConfiguration.maxHeadWidth)
    }
    return .perModality(
      video: try width("", headWidth: 128), audio: try width("audio_", headWidth: 64))
  }

  private static func connector(
    _ c: Configuration, heads: Int, headWidth: Int, layers: Int
  ) throws -> Connector {
    guard headWidth.isMultiple(of: 2) else {
      throw c.error("connector_attention_head_dim", "must be even (got \(headWidth))")
    }
    let layout = try c.string("rope_type", default: "split")
    guard let rope = RotaryEmbedding.Layout(rawValue: layout) else {
      throw c.error("rope_type", "is \"\(layout)\"; expected split or interleaved")
    }
    let maxPositions = try c.ints(
      "connector_positional_embedding_max_pos", default: [1], in: 1...Configuration.maxSize,
      count: 1...1)
    return Connector(
      heads: heads, headWidth: headWidth, layers: layers, maxPosition: Double(maxPositions[0]),
      rope: rope,
      hasDoublePrecisionFrequencies: try c.string("frequencies_precision", default: "float32")
        == "float64",
      isGated: try c.bool("connector_apply_gated_attention", default: false),
      feedForwardBias: try c.bool("connector_ff_bias", default: true))
  }
}
