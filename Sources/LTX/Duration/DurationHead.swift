// B batch, S text tokens, W context width, H pooler width, Q queries, M width of the hidden layer.

import Foundation
import NN
import Support
import Torch

/// Predicts the natural length of a clip from the contexts of its prompt: learned queries attend to
/// all tokens of both modalities, and two layers turn the result into the logarithm of seconds
/// (ltx-core 1.2.0, `duration_head`).
///
/// The contexts are those that the transformer attends to. The connectors have replaced padding by
/// learned registers, so they need no mask.
public struct DurationHead: Sendable {
  private let inputs: PerModality<Linear>
  /// [H]: marks the tokens of a modality.
  private let embeddings: PerModality<Tensor>
  /// [Q, H]
  private let queries: Tensor
  private let pooler: Pooler
  private let hidden: Linear
  private let output: Linear

  /// - Parameter w: The scope `duration_head`.
  /// - Throws: `WeightError` for a tensor that is missing, not known, or of another shape.
  public init(_ w: Weights, configuration c: DurationHeadConfiguration) throws {
    inputs = try PerModality {
      try Linear(w / "\($0)_input_proj", inputs: c.contextWidths[$0], outputs: c.width)
    }
    embeddings = try PerModality { try w.tensor("\($0)_modality_emb", shape: [c.width]) }
    let pooler = w / "attention_pooler"
    queries = try pooler.tensor("query_tokens", shape: [c.queries, c.width])
    self.pooler = try Pooler(pooler / "cross_attn", width: c.width, heads: c.heads)
    hidden = try Linear(
      w / "mlp_hidden", inputs: c.queries * c.width, outputs: c.hiddenWidth)
    output = try Linear(w / "mlp_out", inputs: c.hiddenWidth, outputs: 1)
    try w.requireAllUsed()
  }

  /// Returns the lengths of clips in seconds: [B], float32.
  ///
  /// - Parameter contexts: [B, S, W] of at least one modality.
  /// - Throws: `Issue` without a context, for one of another width, and if a result is not a number.
  public func callAsFunction(_ contexts: TextContexts) throws -> Tensor {
    let tokens = try contexts.byModality.compactMap { modality, context -> Tensor? in
      let layer = inputs[modality]
      guard context.rank == 3, context.size(2) == layer.inputs else {
        throw Issue.shape(
          .name("\(modality)_context"), context.shape, expected: "[B, S, \(layer.inputs)]")
      }
      return try layer(context.to(queries.device, layer.dtype)) + embeddings[modality]
    }.values()
    guard let batch = tokens.first?.size(0) else {
      throw Issue("neither a video nor an audio context is given")
    }
    let pooled = try pooler(queries, tokens: tokens.count == 1 ? tokens[0] : .cat(tokens, 1))
    let logarithm = try output(
      hidden(pooled.reshape([batch, -1])).gelu(approximate: "tanh"))
    let seconds = try logarithm.squeeze(-1).to(.float32).exp()
    guard try seconds.array(of: Float.self).allSatisfy({ !$0.isNaN }) else {
      throw Issue(
        ["duration"], "is not a number",
        suggestion: "The weights of the duration head are damaged; download the file again.")
    }
    return seconds
  }

  /// The number of frames for a predicted length: rounded, limited, and lowered to a multiple of the
  /// compression plus 1. A result below the min is raised to the next such number, but not above
  /// the max.
  ///
  /// - Parameters:
  ///   - seconds: The prediction.
  ///   - minSeconds, maxSeconds: The limits, which are rounded to frames too.
  /// - Returns: At least 1.
  public static func frames(
    seconds: Double, frameRate: Double, minSeconds: Double = 1, maxSeconds: Double = 20,
    factors: CompressionFactors
  ) -> Int {
    let lowest = frameCount(minSeconds * frameRate)
    let highest = max(lowest, frameCount(maxSeconds * frameRate))
    let wanted = min(max(frameCount(seconds * frameRate), lowest), highest)
    let frames = (wanted - 1) / factors.time * factors.time + 1
    guard frames < lowest else { return frames }
    return min(frames + factors.time, highest)
  }

  /// The nearest number of frames, from 1 up to more than any clip has. Halves round to even, as in
  /// upstream.
  private static func frameCount(_ frames: Double) -> Int {
    let limit = 1e9
    return frames > 1 ? Int(min(frames, limit).rounded(.toNearestOrEven)) : 1
  }
}

/// Attention of learned queries to tokens, with PyTorch's layout of `MultiheadAttention`: one matrix
/// for queries, keys and values.
private struct Pooler: Sendable {
  /// [3 * H, H] and [3 * H]
  private let projection: (weight: Tensor, bias: Tensor)
  private let output: Linear
  private let heads: Int

  init(_ w: Weights, width: Int, heads: Int) throws {
    projection = (
      try w.tensor("in_proj_weight", shape: [3 * width, width]),
      try w.tensor("in_proj_bias", shape: [3 * width])
    )
    output = try Linear(w / "out_proj", inputs: width, outputs: width)
    self.heads = heads
  }

  /// - Parameters:
  ///   - queries: [Q, H]
  ///   - tokens: [B, S, H]
  /// - Returns: [B, Q, H]
  func callAsFunction(_ queries: Tensor, tokens: Tensor) throws -> Tensor {
    let (batch, width) = (tokens.size(0), queries.size(1))
    func project(_ x: Tensor, _ part: Int) throws -> Tensor {
      let (weight, bias) = projection
      return try x.linear(
        weight.narrow(0, part * width, width), bias.narrow(0, part * width, width)
      ).unflatten(-1, [heads, -1]).transpose(1, 2)
    }
    let q = try queries.unsqueeze(0).expand([batch, queries.size(0), width])
    let pooled = try Tensor.scaledDotProductAttention(
      project(q, 0), project(tokens, 1), project(tokens, 2))
    return try output(pooled.transpose(1, 2).flatten(from: 2, through: 3))
  }
}

/// The sizes of the duration head, from `config.duration_head`, and the widths of the contexts, from
/// `config.transformer`. Defaults are upstream's.
public struct DurationHeadConfiguration: Sendable {
  public let contextWidths: PerModality<Int>
  public let width: Int
  public let queries: Int
  public let heads: Int
  public let hiddenWidth: Int

  /// - Parameter config: The complete `config` of the checkpoint.
  /// - Throws: `Issue` for a value of the wrong type or out of range.
  public init(_ config: Configuration) throws {
    let transformer = try config.object("transformer", isOptional: true)
    contextWidths = PerModality(
      video: try transformer.positive("cross_attention_dim", default: 4096),
      audio: try transformer.positive("audio_cross_attention_dim", default: 2048))
    let c = try config.object("duration_head", isOptional: true)
    width = try c.positive("pooler_hidden_dim", default: 256)
    queries = try c.positive("num_queries", default: 1)
    heads = try c.positive("num_pooler_heads", default: 4)
    hiddenWidth = try c.positive("mlp_hidden", default: 256)
    guard width.isMultiple(of: heads) else {
      throw c.error(
        "pooler_hidden_dim", "must be a multiple of num_pooler_heads, \(heads) (got \(width))")
    }
  }
}

extension Checkpoint {
  /// Whether the files have a duration head.
  public var hasDurationHead: Bool { (weights() / Prefix.durationHead).isPresent }

  /// The head that predicts the length of a clip. It is small, so by default it computes in float32,
  /// whatever the dtypes of its file and of the contexts.
  ///
  /// - Throws: `Issue` if no file has one; `WeightError` for one that is damaged.
  public func durationHead(dtype: DType = .float32, device: Device = .cpu) throws -> DurationHead {
    guard hasDurationHead else {
      throw Issue(
        [.file(source.name)], "has no duration head, which predicts the length of a clip",
        suggestion: "Give the file of the duration head too, or choose the number of frames.")
    }
    return try DurationHead(
      weights(LoadPolicy(dtype: dtype, device: device)) / Prefix.durationHead,
      configuration: DurationHeadConfiguration(config))
  }
}
