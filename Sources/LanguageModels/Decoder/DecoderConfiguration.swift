import NN

/// The sizes and variants of a decoder-only language model, from its `config.json`.
///
/// One configuration describes Qwen2 (dense, biases on queries, keys and values) and Qwen3-MoE
/// (normalized heads, a mixture of experts), with positions of one or three components.
public struct DecoderConfiguration: Sendable {
  /// The feed-forward network of a layer.
  public enum FeedForward: Sendable, Equatable {
    case dense(width: Int)
    case experts(Experts)

    var hasExperts: Bool {
      if case .experts = self { return true }
      return false
    }
  }

  /// A mixture of experts, a few of which are used for each token.
  public struct Experts: Sendable, Equatable {
    public let count: Int
    public let perToken: Int
    /// The inner width of one expert.
    public let width: Int
    /// Whether the weights of a token's experts are divided by their sum.
    public let isNormalized: Bool
  }

  /// The distribution of the three components of a position (time, row, column) over the
  /// frequencies of the rotation.
  public enum Sections: Sendable, Equatable {
    /// Consecutive blocks of frequencies, whose sizes sum to half the width of a head.
    case blocks([Int])
    /// Time, row and column in turn, as long as rows and columns have frequencies left; then time
    /// alone.
    case interleaved([Int])
  }

  public let vocabulary: Int
  public let width: Int
  public let heads: Int
  /// The number of key and value heads, each shared by `heads / keyHeads` query heads.
  public let keyHeads: Int
  public let headWidth: Int
  public let layers: [FeedForward]
  public let normEps: Double
  /// The base of the rotation's frequencies.
  public let theta: Double
  public let sections: Sections
  /// Whether queries, keys and values have biases.
  public let hasInputBias: Bool
  /// Whether the output of attention has a bias.
  public let hasOutputBias: Bool
  /// Whether the heads of queries and keys are normalized before the rotation.
  public let normalizesHeads: Bool
  /// The max number of positions that the model was trained with.
  public let maxPositions: Int

  /// The number of query heads that share a head of keys and values.
  var groups: Int { heads / keyHeads }

  /// Reads the `text_config` of Qwen2.5-Omni or Qwen3-Omni.
  ///
  /// - Throws: `Issue` for a value that is missing, invalid, or not supported.
  public init(_ c: Configuration, family: QwenOmniFamily) throws {
    try Self.requireSupported(c)
    vocabulary = try c.positive("vocab_size")
    width = try c.positive("hidden_size")
    heads = try c.positive("num_attention_heads", upTo: 4096)
    keyHeads = try c.positive("num_key_value_heads", default: heads, upTo: 4096)
    guard heads.isMultiple(of: keyHeads) else {
      throw c.error(
        "num_attention_heads",
        "is \(heads), which is not a multiple of num_key_value_heads, \(keyHeads)")
    }
    headWidth = try c.positive("head_dim", default: max(width / heads, 1), upTo: 4096)
    guard headWidth.isMultiple(of: 2) else {
      throw c.error("head_dim", "is \(headWidth), but rotary positions need an even width")
    }
    normEps = try c.double("rms_norm_eps", default: 1e-6, in: 0...1)
    maxPositions = try c.positive("max_position_embeddings", default: 32768, upTo: 1 << 30)
    switch family {
    case .qwen25:
      (hasInputBias, hasOutputBias, normalizesHeads) = (true, false, false)
    case .qwen3:
      let hasBias = try c.bool("attention_bias", default: false)
      (hasInputBias, hasOutputBias, normalizesHeads) = (hasBias, hasBias, true)
    }
    layers = try Self.layers(c, family: family)
    (theta, sections) = try Self.rotation(c, family: family, headWidth: headWidth)
  }

  private static func layers(_ c: Configuration, family: QwenOmniFamily) throws -> [FeedForward] {
    let count = try c.positive("num_hidden_layers", upTo: Configuration.maxLayers)
    guard family == .qwen3 else {
      let dense = FeedForward.dense(width: try c.positive("intermediate_size"))
      return Array(repeating: dense, count: count)
    }
    let experts = Experts(
      count: try c.positive("num_experts", upTo: 65536),
      perToken: try c.positive("num_experts_per_tok", upTo: 65536),
      width: try c.positive("moe_intermediate_size"),
      isNormalized: try c.bool("norm_topk_prob", default: true))
    guard experts.perToken <= experts.count else {
      throw c.error(
        "num_experts_per_tok",
        "is \(experts.perToken) (expected at most num_experts, \(experts.count))")
    }
    let step = try c.positive("decoder_sparse_step", default: 1)
    let dense = Set(try c.ints("mlp_only_layers", default: [], count: 0...Configuration.maxLayers))
    return try (0..<count).map { index in
      !dense.contains(index) && (index + 1).isMultiple(of: step)
        ? .experts(experts) : .dense(width: try c.positive("intermediate_size"))
    }
  }

  /// The rotation: `rope_parameters`, or in older files `rope_theta` and `rope_scaling`.
  private static func rotation(
    _ c: Configuration, family: QwenOmniFamily, headWidth: Int
  ) throws -> (theta: Double, sections: Sections) {
    let key = c.has("rope_parameters") ? "rope_parameters" : "rope_scaling"
    let parameters = try c.object(key)
    for name in ["rope_type", "type"] {
      let kind = try parameters.string(name, default: "default")
      guard ["default", "mrope"].contains(kind) else {
        throw parameters.error(name, "is \"\(kind)\"; only default and mrope are supported")
      }
    }
    let theta =
      parameters.has("rope_theta")
      ? try parameters.positiveDouble("rope_theta") : try c.positiveDouble("rope_theta")
    let sizes = try parameters.ints("mrope_section", in: 0...headWidth, count: 3...3)
    let half = headWidth / 2
    switch family {
    case .qwen25:
      guard sizes.reduce(0, +) == half else {
        throw parameters.error(
          "mrope_section", "is \(sizes) (expected three numbers whose sum is \(half))")
      }
      return (theta, .blocks(sizes))
    case .qwen3:
      guard sizes.dropFirst().allSatisfy({ 3 * $0 <= half + 2 }) else {
        throw parameters.error(
          "mrope_section", "is \(sizes), but a head has only \(half) frequencies")
      }
      return (theta, .interleaved(sizes))
    }
  }

  /// The component of the position, 0 to 2, that each of the frequencies turns with.
  var components: [Int] {
    switch sections {
    case .blocks(let sizes):
      return sizes.enumerated().flatMap { Array(repeating: $0, count: $1) }
    case .interleaved(let sizes):
      return (0..<headWidth / 2).map { index in
        let component = index % 3
        return index < 3 * sizes[component] ? component : 0
      }
    }
  }

  private static func requireSupported(_ c: Configuration) throws {
    let activation = try c.string("hidden_act", default: "silu")
    guard activation == "silu" else {
      throw c.error("hidden_act", "is \"\(activation)\"; only silu is supported")
    }
    guard try !c.bool("use_sliding_window", default: false) else {
      throw c.error("use_sliding_window", "is true; only full attention is supported")
    }
  }
}
