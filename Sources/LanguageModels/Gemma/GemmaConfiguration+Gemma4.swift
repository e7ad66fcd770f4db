import NN

extension GemmaConfiguration {
  /// Reads the text configuration of a Gemma 4.
  init(gemma4 c: Configuration) throws {
    try Self.requireSupportedGemma4(c)
    // As in transformers, five sliding layers precede each global one, and the last is global.
    var layers = try Self.layers(
      c, count: c.positive("num_hidden_layers", default: 30, upTo: Configuration.maxLayers),
      pattern: 6)
    layers[layers.count - 1] = .global
    let keyHeads = try c.positive("num_key_value_heads", default: 4, upTo: 4096)
    let keysAreValues = try c.bool("attention_k_eq_v", default: false)
    let globalKeyHeads = try c.positive("num_global_key_value_heads", default: keyHeads, upTo: 4096)
    self.init(
      vocabulary: try c.positive("vocab_size", default: 262_144),
      width: try c.positive("hidden_size", default: 2304),
      feedForwardWidth: try c.positive("intermediate_size", default: 9216),
      heads: try c.positive("num_attention_heads", default: 8, upTo: 4096),
      layers: layers,
      slidingWindow: try c.positive("sliding_window", default: 1024),
      sliding: Attention(
        keyHeads: keyHeads, headWidth: try c.positive("head_dim", default: 256, upTo: 4096),
        rotation: try Self.gemma4Rotation(c, .sliding, isUsed: layers.contains(.sliding)),
        projectsValues: true),
      global: Attention(
        keyHeads: keysAreValues ? globalKeyHeads : keyHeads,
        headWidth: try c.positive("global_head_dim", default: 512, upTo: 4096),
        rotation: try Self.gemma4Rotation(c, .global, isUsed: true),
        projectsValues: !keysAreValues),
      attentionScale: 1,
      hasAttentionBias: try c.bool("attention_bias", default: false),
      normalizesValues: true, scalesLayers: true,
      normEps: try c.double("rms_norm_eps", default: 1e-6, in: 0...1), normOffset: 0)
  }

  /// The rotation of a kind of layer. A file has an object in `rope_parameters` for each kind, or
  /// no `rope_parameters` at all.
  ///
  /// - Parameter isUsed: Whether the model has such layers; else the object may be missing.
  private static func gemma4Rotation(
    _ c: Configuration, _ kind: LayerKind, isUsed: Bool
  ) throws -> Rotation {
    let standard =
      kind == .global
      ? Rotation(theta: 1_000_000, rotatedPart: 0.25) : Rotation(theta: 10_000)
    guard c.has("rope_parameters") else { return standard }
    let parameters = try c.object("rope_parameters")
    guard isUsed || parameters.has(kind.rawValue) else { return standard }
    let own = try parameters.object(kind.rawValue)
    let theta = try own.positiveDouble("rope_theta")
    switch try own.string("rope_type", default: "default") {
    case "default": return Rotation(theta: theta)
    case "linear": return Rotation(theta: theta, factor: try own.positiveDouble("factor"))
    case "proportional":
      return Rotation(
        theta: theta, factor: try own.positiveDouble("factor", default: 1),
        rotatedPart: try own.double("partial_rotary_factor", default: 1, in: 0...1))
    case let other:
      throw own.error(
        "rope_type", "is \"\(other)\"; only default, linear and proportional are supported")
    }
  }

  /// Rejects the variants of the small and dense models, which aren't text encoders of LTX.
  private static func requireSupportedGemma4(_ c: Configuration) throws {
    for key in ["num_kv_shared_layers", "hidden_size_per_layer_input"] {
      let value = try c.int(key, default: 0, in: 0...Configuration.maxSize)
      guard value == 0 else { throw c.error(key, "is \(value); only 0 is supported") }
    }
    for key in ["use_double_wide_mlp", "enable_moe_block"] {
      guard try !c.bool(key, default: false) else {
        throw c.error(key, "is true; only false is supported")
      }
    }
    // With text alone, attention that is bidirectional on images is causal.
    let bidirectional = try c.string("use_bidirectional_attention", default: "vision")
    guard bidirectional == "vision" else {
      throw c.error(
        "use_bidirectional_attention",
        "is \"\(bidirectional)\"; only vision, which leaves text causal, is supported")
    }
    guard !c.has("per_layer_config") else {
      throw c.error(
        "per_layer_config",
        "is set, but sizes of single layers are not supported "
          + "(expected global_head_dim and num_global_key_value_heads)")
    }
  }
}
