// B batch, T query tokens, S key tokens, D query width, H heads, I = H * head width.

import NN
import Torch

/// Multi-head attention with normalized queries and keys, rotary positions and, where the
/// checkpoint has it, a gate per head (ltx-core, `transformer/attention.py`).
public struct Attention: Sendable {
  let toQ: Linear
  let toK: Linear
  let toV: Linear
  let toOut: Linear
  /// Normalizes all heads together, before the rotation.
  let normQ: RMSNorm
  let normK: RMSNorm
  let toGate: Linear?
  let heads: Int

  /// - Parameters:
  ///   - width: The width of the queries' input.
  ///   - contextWidth: The width of the keys' and values' input.
  public init(
    _ w: Weights, width: Int, contextWidth: Int, heads: Int, headWidth: Int, eps: Double,
    isGated: Bool
  ) throws {
    let inner = heads * headWidth
    toQ = try Linear(w / "to_q", inputs: width, outputs: inner)
    toK = try Linear(w / "to_k", inputs: contextWidth, outputs: inner)
    toV = try Linear(w / "to_v", inputs: contextWidth, outputs: inner)
    toOut = try Linear(w / "to_out" / 0, inputs: inner, outputs: width)
    normQ = try RMSNorm(w / "q_norm", width: inner, eps: eps)
    normK = try RMSNorm(w / "k_norm", width: inner, eps: eps)
    toGate = isGated ? try Linear(w / "to_gate_logits", inputs: width, outputs: heads) : nil
    self.heads = heads
  }

  /// - Parameters:
  ///   - x: [B, T, D], the queries' input.
  ///   - context: [B, S, C], the keys' and values' input; nil for self-attention.
  ///   - mask: [B, 1 or H, 1 or T, S], added to the scores.
  ///   - positions: The queries' rotation; `keyPositions` is the keys', nil if they are the same.
  ///   - bypass: The samples whose value projection replaces the attention.
  /// - Returns: [B, T, D]
  public func callAsFunction(
    _ x: Tensor, context: Tensor? = nil, mask: Tensor? = nil, positions: RotaryEmbedding? = nil,
    keyPositions: RotaryEmbedding? = nil, bypass: Bypass = .none
  ) throws -> Tensor {
    let isSelfAttention = context == nil
    let context = context ?? x
    let v = try toV(context)
    var out: Tensor
    if case .all = bypass {
      out = v
    } else {
      let q = try rotate(normQ(toQ(x)), positions)
      let k = try rotate(normK(toK(context)), keyPositions ?? positions)
      // Other attentions have few keys: computing them again costs less than the memory is worth.
      out =
        isSelfAttention && mask == nil
        ? try KeptAttention.attention(q, k, split(v))
        : try Tensor.scaledDotProductAttention(q, k, split(v), mask: mask)
      out = try out.transpose(1, 2).flatten(from: 2, through: 3)
      if case .samples(let keep) = bypass {
        out = try out * keep + v * (1 - keep)
      }
    }
    if let toGate {
      let gate = try toGate(x).sigmoid() * 2  // [B, T, H]
      out = try (out.unflatten(-1, [heads, -1]) * gate.unsqueeze(-1)).flatten(from: 2, through: 3)
    }
    return try toOut(out)
  }

  private func rotate(_ x: Tensor, _ positions: RotaryEmbedding?) throws -> Tensor {
    try positions?.rotate(x, heads: heads) ?? split(x)
  }

  /// [B, T, I] to [B, H, T, I/H]
  private func split(_ x: Tensor) throws -> Tensor {
    try x.unflatten(-1, [heads, -1]).transpose(1, 2)
  }

  /// The samples of a batch that skip the attention and use the value projection unchanged.
  public enum Bypass: Sendable {
    case none
    case all
    /// [B, 1, 1]: 1 where a sample keeps its attention, 0 where it is bypassed.
    case samples(keep: Tensor)
  }
}
