// N prompts, T new tokens, D width, V vocabulary.

import BlockExecution
import NN
import Support
import Torch

/// A decoder-only language model: embeddings of tokens or of media in, logits of the next token
/// out.
///
/// The architecture is that of `transformers`' Qwen2 and Qwen3-MoE (`modeling_qwen2_5_omni.py`,
/// `modeling_qwen3_omni_moe.py`); `DecoderConfiguration` has their differences.
public struct Decoder: Sendable {
  public let configuration: DecoderConfiguration
  /// [V, D] on the host in the dtype of the file: a pass uses few rows of this large table.
  private let embedding: Tensor
  private let blocks: BlockStack<DecoderBlock>
  private let norm: RMSNorm
  private let head: Linear
  /// The experts that are in memory.
  let experts: ExpertCache
  let device: Device
  let dtype: DType

  /// - Parameters:
  ///   - w: The scope of `model` and `lm_head`.
  ///   - embedding: The scope of the table of embeddings, under a policy that keeps the dtype of the
  ///     file.
  ///   - dtype: The dtype to compute in, that of the policy.
  ///   - expertLimit: The max bytes of the experts in memory; nil for no limit.
  /// - Throws: `WeightError` if a tensor is missing or doesn't have the shape in the configuration.
  init(
    _ w: Weights, embedding table: Weights, configuration c: DecoderConfiguration, dtype: DType,
    expertLimit: Int?
  ) throws {
    configuration = c
    device = w.device
    self.dtype = dtype
    embedding = try table.tensor("weight", shape: [c.vocabulary, c.width])
    let experts = ExpertCache(limit: expertLimit)
    let model = w / "model"
    blocks = try BlockStack(model / "layers", count: c.layers.count) { w, index in
      try DecoderBlock(w, layer: index, configuration: c, experts: experts)
    }
    self.experts = experts
    norm = try RMSNorm(model / "norm", width: c.width, eps: c.normEps)
    // Models with a shared table have no tensor of their own for the last layer.
    let last = (w / "lm_head").has("weight") ? w / "lm_head" : model / "embed_tokens"
    head = try Linear(last, inputs: c.width, outputs: c.vocabulary, bias: false)
  }

  /// The embeddings of tokens, one row each: [count, D].
  ///
  /// - Throws: `Issue` for an id outside of the vocabulary.
  func embed(_ ids: [Int]) throws -> Tensor {
    if let wrong = ids.first(where: { !(0..<configuration.vocabulary).contains($0) }) {
      throw Issue(
        ["ids"],
        "must be between 0 and \(configuration.vocabulary - 1), the model's last token (got \(wrong))",
        suggestion: "Use the tokenizer of this model.")
    }
    return try embedding.indexSelect(0, Tensor(ids)).uploaded(to: device, dtype)
  }

  /// Reads tokens and adds them to the cache.
  ///
  /// - Parameter hidden: The tokens' embeddings, [N, T, D].
  /// - Returns: The last layer's output, [N, T, D], before the final normalization.
  func read(_ hidden: Tensor, _ context: DecoderContext) throws -> Tensor {
    let tokens = hidden.size(1)
    context.cache.reserve(tokens)
    let state = try blocks(DecoderState(hidden: hidden), context)
    context.cache.advance(tokens)
    return state.hidden
  }

  /// The logits of the tokens that follow, [N, T, V] for the output of the last layer.
  func logits(_ hidden: Tensor) throws -> Tensor { try head(norm(hidden)) }
}

/// Prompts of equal length, padded on the left.
public struct DecoderPrompt: Sendable {
  /// [N, T]: the tokens, padding included.
  let ids: [[Int]]
  /// [N, T]: 0 on padding.
  let mask: [[Int]]
  /// [N, T, D]: the embeddings of tokens and media.
  let embeddings: Tensor
  /// [3, N, T], float32: the time, row and column of each token.
  let positions: Tensor
  /// The difference between the position and the index of a token that follows the prompt.
  let deltas: [Double]
  /// Tensors [N, T, D] that are added to the outputs of the first layers.
  let additions: [Tensor]

  var count: Int { ids.count }
  var length: Int { ids.first?.count ?? 0 }
  var isPadded: Bool { mask.contains { $0.contains(0) } }
}

extension Decoder {
  /// Returns the logits at all positions of prompts, [N, T, V], 0 on padding.
  public func logits(_ prompt: DecoderPrompt) throws -> Tensor {
    try withInference {
      let hidden = try read(prompt.embeddings, context(prompt, room: 0))
      guard prompt.isPadded else { return try logits(hidden) }
      let isPadding = try Tensor(
        prompt.mask.flatMap { $0.map { $0 == 0 } }, shape: [prompt.count, prompt.length, 1])
      return try logits(hidden).maskedFill(isPadding.uploaded(to: device), 0)
    }
  }

  /// The context in which prompts are read.
  ///
  /// - Parameter room: The number of tokens that are expected to follow.
  func context(_ prompt: DecoderPrompt, room: Int) throws -> DecoderContext {
    DecoderContext(
      positions: try RotaryPositions(
        positions: prompt.positions, configuration: configuration, dtype: dtype, device: device),
      mask: try prompt.isPadded ? Self.mask(prompt.mask, dtype: dtype, device: device) : nil,
      cache: KeyValueCache(configuration, capacity: prompt.length + room),
      additions: prompt.additions)
  }

  /// 0 where a token attends to another, minus infinity elsewhere: [N, 1, T, T].
  private static func mask(_ mask: [[Int]], dtype: DType, device: Device) throws -> Tensor {
    let tokens = mask[0].count
    let indices = try Tensor.arange(to: Scalar(tokens))
    let distance = try indices.unsqueeze(1) - indices.unsqueeze(0)  // row minus column
    let flags = mask.flatMap { $0.map { $0 != 0 } }
    let isToken = try Tensor(flags, shape: [mask.count, 1, 1, tokens])
    // Padding attends to itself: a row of scores with nothing to attend to would give NaN.
    let allowed = try distance.greaterOrEqual(to: 0)
      .logicalAnd(isToken.logicalOr(distance.equal(to: 0)))
    return try Tensor.zeros(allowed.shape, dtype: dtype)
      .maskedFill(allowed.logicalNot(), Scalar(-Double.infinity)).uploaded(to: device)
  }
}
