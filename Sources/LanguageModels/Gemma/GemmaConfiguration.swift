import NN

/// The sizes and variants of a Gemma 3 or Gemma 4 language model, from its `config.json`.
///
/// The two families differ in few values, which are all here: the layers have no other switch. The
/// defaults are those of `transformers` (`Gemma3TextConfig`, `Gemma4UnifiedTextConfig`): the
/// published files omit values that equal them.
public struct GemmaConfiguration: Sendable {
  public enum Family: String, Sendable, CaseIterable {
    case gemma3
    /// Gemma 4 without encoders for images and audio, such as Gemma 4 12B. The dense variant,
    /// `gemma4`, has another architecture.
    case gemma4 = "gemma4_unified"

    /// The `model_type` of a file with only the language model, and of `text_config`.
    var textModelType: String { rawValue + "_text" }

    /// - Parameter modelType: The top-level `model_type` of a configuration.
    /// - Returns: nil for any other model.
    public init?(modelType: String) {
      guard
        let family = Self.allCases.first(where: {
          [$0.rawValue, $0.textModelType].contains(modelType)
        })
      else { return nil }
      self = family
    }
  }

  /// The span of a layer's attention, by its name in the configuration.
  public enum LayerKind: String, Sendable, CaseIterable {
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
    /// The part of a head's frequencies that are not zero, from the highest on.
    public let rotatedPart: Double

    init(theta: Double, factor: Double = 1, rotatedPart: Double = 1) {
      (self.theta, self.factor, self.rotatedPart) = (theta, factor, rotatedPart)
    }
  }

  /// The attention of one kind of layer.
  public struct Attention: Sendable, Equatable {
    /// The number of key and value heads, each shared by `heads / keyHeads` query heads.
    public let keyHeads: Int
    public let headWidth: Int
    public let rotation: Rotation
    /// Whether values have a projection of their own; else they are the projected keys, before
    /// their normalization and rotation.
    public let projectsValues: Bool
  }

  public let vocabulary: Int
  public let width: Int
  public let feedForwardWidth: Int
  /// The number of query heads.
  public let heads: Int
  public let layers: [LayerKind]
  public let slidingWindow: Int
  public let sliding: Attention
  public let global: Attention
  /// The scale of attention scores, which may differ from headWidth^-0.5.
  public let attentionScale: Double
  public let hasAttentionBias: Bool
  /// Whether values are normalized per head, without a learned scale.
  public let normalizesValues: Bool
  /// Whether each layer's output is multiplied by a stored scalar.
  public let scalesLayers: Bool
  public let normEps: Double
  /// The number that is added to a norm's weight, which gives its scale.
  public let normOffset: Double

  public func attention(of kind: LayerKind) -> Attention {
    kind == .global ? global : sliding
  }
}

extension GemmaConfiguration {
  /// - Parameter config: The complete file of a text model, or of a multimodal model, whose sizes
  ///   are in `text_config`.
  /// - Throws: `Issue` for a model of another family, and for a value that is of the wrong type,
  ///   invalid, or not supported.
  public init(_ config: Configuration) throws {
    let type = try config.string("model_type")
    guard let family = Family(modelType: type) else {
      let known = Family.allCases.flatMap { [$0.rawValue, $0.textModelType] }
      throw config.error(
        "model_type",
        "is \"\(type)\", which is not supported (expected \(known.joined(separator: ", ")))")
    }
    let isMultimodal = config.has("text_config") || type == family.rawValue
    let c = isMultimodal ? try config.object("text_config") : config
    let textType = try c.string("model_type", default: family.textModelType)
    guard textType == family.textModelType else {
      throw c.error(
        "model_type",
        "is \"\(textType)\"; the language model of \(family.rawValue) is \(family.textModelType)")
    }
    try Self.requireSupported(c)
    switch family {
    case .gemma3: try self.init(gemma3: c)
    case .gemma4: try self.init(gemma4: c)
    }
    for kind in LayerKind.allCases { try requireFit(attention(of: kind), c) }
  }

  private func requireFit(_ attention: Attention, _ c: Configuration) throws {
    guard heads.isMultiple(of: attention.keyHeads) else {
      throw c.error(
        "num_attention_heads",
        "is \(heads), which is not a multiple of the key and value heads, \(attention.keyHeads)")
    }
    guard attention.headWidth.isMultiple(of: 2) else {
      throw c.error(
        "head_dim", "is \(attention.headWidth), but rotary positions need an even width")
    }
  }

  /// Rejects variants that neither family uses and that aren't implemented here.
  private static func requireSupported(_ c: Configuration) throws {
    let activation = try c.string("hidden_activation", default: "gelu_pytorch_tanh")
    guard activation == "gelu_pytorch_tanh" else {
      throw c.error(
        "hidden_activation", "is \"\(activation)\"; only gelu_pytorch_tanh is supported")
    }
    guard !c.has("attn_logit_softcapping") else {
      throw c.error("attn_logit_softcapping", "is set, but capped scores are not supported")
    }
  }

  /// The kinds of the layers: a list, or else every n-th layer is global.
  static func layers(_ c: Configuration, count: Int, pattern: Int) throws -> [LayerKind] {
    guard c.has("layer_types") else {
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
}
