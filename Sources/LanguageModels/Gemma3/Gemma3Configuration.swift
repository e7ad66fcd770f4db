import NN

/// The sizes of a Gemma 3 language model, from its `config.json`.
///
/// The defaults are those of `transformers` (`Gemma3TextConfig`): the published files omit values
/// that equal them.
public struct Gemma3Configuration: Sendable {
  /// The span of a layer's attention, by its name in the configuration.
  public enum LayerKind: String, Sendable {
    /// The last `slidingWindow` tokens, including the token itself.
    case sliding = "sliding_attention"
    /// All previous tokens and the token itself.
    case global = "full_attention"
  }

  /// The rotary embedding of one kind of layer.
  public struct Rotation: Sendable, Equatable {
    public let theta: Double
    /// The divisor of positions, which extends the original training context.
    public let factor: Double
  }

  public let vocabulary: Int
  public let width: Int
  public let feedForwardWidth: Int
  public let heads: Int
  /// The number of key and value heads, each shared by `heads / keyHeads` query heads.
  public let keyHeads: Int
  public let headWidth: Int
  public let layers: [LayerKind]
  public let slidingWindow: Int
  public let slidingRotation: Rotation
  public let globalRotation: Rotation
  /// The scale of attention scores, which may differ from headWidth^-0.5.
  public let attentionScale: Double
  public let hasAttentionBias: Bool
  public let normEps: Double

  /// - Parameter config: The complete file of a text model, or of a multimodal model, whose sizes
  ///   are in `text_config`.
  /// - Throws: `Issue` for a value that is of the wrong type, invalid, or not supported.
  public init(_ config: Configuration) throws {
    let isMultimodal =
      try config.has("text_config") || config.string("model_type", default: "") == "gemma3"
    let c = isMultimodal ? try config.object("text_config") : config
    try Self.requireSupported(c)
    vocabulary = try c.positive("vocab_size", default: 262_208)
    width = try c.positive("hidden_size", default: 2304)
    feedForwardWidth = try c.positive("intermediate_size", default: 9216)
    heads = try c.positive("num_attention_heads", default: 8, upTo: 4096)
    keyHeads = try c.positive("num_key_value_heads", default: 4, upTo: 4096)
    headWidth = try c.positive("head_dim", default: 256, upTo: 4096)
    guard heads.isMultiple(of: keyHeads) else {
      throw c.error(
        "num_attention_heads",
        "is \(heads), which is not a multiple of num_key_value_heads, \(keyHeads)")
    }
    guard headWidth.isMultiple(of: 2) else {
      throw c.error("head_dim", "is \(headWidth), but rotary positions need an even width")
    }
    layers = try Self.layers(c)
    slidingWindow = try c.positive("sliding_window", default: 4096)
    slidingRotation = try Self.rotation(c, .sliding)
    globalRotation = try Self.rotation(c, .global)
    let scalar = try c.positiveDouble("query_pre_attn_scalar", default: 256)
    attentionScale = 1 / scalar.squareRoot()
    hasAttentionBias = try c.bool("attention_bias", default: false)
    normEps = try c.double("rms_norm_eps", default: 1e-6, in: 0...1)
  }

  /// The kinds of the layers: a list, or in older files, every n-th layer is global.
  private static func layers(_ c: Configuration) throws -> [LayerKind] {
    let count = try c.positive("num_hidden_layers", default: 26, upTo: Configuration.maxLayers)
    guard c.has("layer_types") else {
      let pattern = try c.positive("sliding_window_pattern", default: 6)
      return (1...count).map { $0.isMultiple(of: pattern) ? .global : .sliding }
    }
    let names = try c.strings("layer_types")
    guard names.count == count else {
      throw c.error("layer_types", "has \(names.count) entries, but num_hidden_layers is \(count)")
    }
    return try names.map { name in
      guard let kind = LayerKind(rawValue: name) else {
        throw c.error(
          "layer_types", "has \"\(name)\"; only sliding_attention and full_attention are supported")
      }
      return kind
    }
  }

  /// The rotation of a kind of layer: an object for each in `rope_parameters`, or in older files,
  /// `rope_local_base_freq` for sliding layers, and `rope_theta` and `rope_scaling` for global
  /// ones.
  private static func rotation(_ c: Configuration, _ kind: LayerKind) throws -> Rotation {
    let parameters = try c.object("rope_parameters", isOptional: true)
    for key in ["rope_theta", "rope_type", "factor"] where parameters.has(key) {
      throw parameters.error(
        key, "must stand in sliding_attention or full_attention: they differ in Gemma 3")
    }
    let own = try parameters.object(kind.rawValue, isOptional: true)
    let theta =
      if own.has("rope_theta") {
        try own.positiveDouble("rope_theta")
      } else if kind == .global {
        try c.positiveDouble("rope_theta", default: 1_000_000)
      } else {
        try c.positiveDouble("rope_local_base_freq", default: 10_000)
      }
    let isOlder = kind == .global && !own.has("rope_type")
    return Rotation(
      theta: theta, factor: try factor(isOlder ? c.object("rope_scaling", isOptional: true) : own))
  }

  private static func factor(_ scaling: Configuration) throws -> Double {
    let key = scaling.has("type") && !scaling.has("rope_type") ? "type" : "rope_type"
    switch try scaling.string(key, default: "default") {
    case "default": return 1
    case "linear":
      return try scaling.positiveDouble("factor")
    case let other:
      throw scaling.error(key, "is \"\(other)\"; only default and linear are supported")
    }
  }

  /// Rejects variants that no published Gemma 3 uses and that aren't implemented here.
  private static func requireSupported(_ c: Configuration) throws {
    let kind = try c.string("model_type", default: "gemma3_text")
    guard kind == "gemma3_text" else {
      throw c.error("model_type", "is \"\(kind)\"; the language model of Gemma 3 is gemma3_text")
    }
    let activation = try c.string("hidden_activation", default: "gelu_pytorch_tanh")
    guard activation == "gelu_pytorch_tanh" else {
      throw c.error(
        "hidden_activation", "is \"\(activation)\"; only gelu_pytorch_tanh is supported")
    }
    guard !c.has("attn_logit_softcapping") else {
      throw c.error("attn_logit_softcapping", "is set; scores are not capped in Gemma 3")
    }
    guard try !c.bool("use_bidirectional_attention", default: false) else {
      throw c.error("use_bidirectional_attention", "is true; only causal attention is supported")
    }
  }
}
