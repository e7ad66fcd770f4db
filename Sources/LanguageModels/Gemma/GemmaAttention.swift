// N prompts, S tokens, D width, H query heads, K key heads, E width of a head.

import NN
import Torch

/// Causal attention in which groups of query heads share a head of keys and values (Ainslie et al.,
/// "GQA", 2023), with queries and keys normalized per head before the rotation ("Gemma 3 Technical
/// Report", 2025).
struct GemmaAttention: Sendable {
  private let toQ: Linear
  private let toK: Linear
  /// Nil if the projected keys are the values too.
  private let toV: Linear?
  private let toOut: Linear
  private let normQ: GemmaRMSNorm
  private let normK: GemmaRMSNorm
  /// Nil if values are not normalized.
  private let normV: GemmaRMSNorm?
  private let headWidth: Int
  /// The number of query heads for each head of keys and values.
  private let groups: Int
  private let scale: Double

  init(_ w: Weights, kind: GemmaConfiguration.LayerKind, configuration c: GemmaConfiguration) throws
  {
    let sizes = c.attention(of: kind)
    func linear(_ name: String, heads: Int) throws -> Linear {
      try Linear(
        w / name, inputs: c.width, outputs: heads * sizes.headWidth, bias: c.hasAttentionBias)
    }
    toQ = try linear("q_proj", heads: c.heads)
    toK = try linear("k_proj", heads: sizes.keyHeads)
    toV = sizes.projectsValues ? try linear("v_proj", heads: sizes.keyHeads) : nil
    toOut = try Linear(
      w / "o_proj", inputs: c.heads * sizes.headWidth, outputs: c.width, bias: c.hasAttentionBias)
    normQ = try GemmaRMSNorm(w / "q_norm", width: sizes.headWidth, configuration: c)
    normK = try GemmaRMSNorm(w / "k_norm", width: sizes.headWidth, configuration: c)
    normV = c.normalizesValues ? GemmaRMSNorm(width: sizes.headWidth, configuration: c) : nil
    headWidth = sizes.headWidth
    groups = c.heads / sizes.keyHeads
    scale = c.attentionScale
  }

  /// - Parameters:
  ///   - x: [N, S, D]
  ///   - mask: [N, 1, S, S], added to the scores.
  /// - Returns: [N, S, D]
  func callAsFunction(_ x: Tensor, mask: Tensor, positions: GemmaPositions) throws -> Tensor {
    let q = try positions.rotate(normQ(split(toQ(x))))
    let projected = try split(toK(x))
    let k = try positions.rotate(normK(projected))
    var v = try toV.map { try split($0(x)) } ?? projected
    if let normV { v = try normV(v) }
    let out = try Tensor.scaledDotProductAttention(
      q, k.repeatInterleave(groups, 1), v.repeatInterleave(groups, 1), mask: mask, scale: scale)
    return try toOut(out.transpose(1, 2).flatten(from: 2, through: 3))
  }

  /// [N, S, H * E] to [N, H, S, E]
  private func split(_ x: Tensor) throws -> Tensor {
    try x.unflatten(-1, [-1, headWidth]).transpose(1, 2)
  }
}
