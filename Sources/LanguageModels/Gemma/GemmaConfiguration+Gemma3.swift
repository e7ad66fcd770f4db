import NN

extension GemmaConfiguration {
  /// Reads the text configuration of a Gemma 3.
  init(gemma3 c: Configuration) throws {
    guard try !c.bool("use_bidirectional_attention", default: false) else {
      throw c.error("use_bidirectional_attention", "is true; only causal attention is supported")
    }
    let keyHeads = try c.positive("num_key_value_heads", default: 4, upTo: 4096)
    let headWidth = try c.positive("head_dim", default: 256, upTo: 4096)
    func attention(_ kind: LayerKind) throws -> Attention {
      Attention(
        keyHeads: keyHeads, headWidth: headWidth, rotation: try Self.gemma3Rotation(c, kind),
        projectsValues: true)
    }
    let scalar = try c.positiveDouble("query_pre_attn_scalar", default: 256)
    self.init(
      vocabulary: try c.positive("vocab_size", default: 262_208),
      width: try c.positive("hidden_size", default: 2304),
      feedForwardWidth: try c.positive("intermediate_size", default: 9216),
      heads: try c.positive("num_attention_heads", default: 8, upTo: 4096),
      layers: try Self.layers(
        c,
        count: c.positive("num_hidden_layers", default: 26, upTo: Configuration.maxLayers),
        pattern: c.positive("sliding_window_pattern", default: 6)),
      slidingWindow: try c.positive("sliding_window", default: 4096),
      sliding: try attention(.sliding), global: try attention(.global),
      attentionScale: 1 / scalar.squareRoot(),
      hasAttentionBias: try c.bool("attention_bias", default: false),
      normalizesValues: false, scalesLayers: false,
      normEps: try c.double("rms_norm_eps", default: 1e-6, in: 0...1), normOffset: 1)
  }

  /// The rotation of a kind of layer: an object for each in `rope_parameters`, or in older files,
  /// `rope_local_base_freq` for sliding layers, and `rope_theta` and `rope_scaling` for global
  /// ones.
  private static func gemma3Rotation(_ c: Configuration, _ kind: LayerKind) throws -> Rotation {
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
}
