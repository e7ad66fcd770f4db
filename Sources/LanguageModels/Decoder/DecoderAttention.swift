// N prompts, T new tokens, L tokens so far, D width, H query heads, K key heads, E width of a head.

import NN
import Torch

/// Causal attention in which groups of query heads share a head of keys and values (Ainslie et al.,
/// "GQA", 2023), over the new tokens and those in the cache.
struct DecoderAttention: Sendable {
  private let toQ: Linear
  private let toK: Linear
  private let toV: Linear
  private let toOut: Linear
  /// Nil if heads are not normalized.
  private let normQ: RMSNorm?
  private let normK: RMSNorm?
  private let layer: Int
  private let configuration: DecoderConfiguration

  init(_ w: Weights, layer: Int, configuration c: DecoderConfiguration) throws {
    let (queries, keys) = (c.heads * c.headWidth, c.keyHeads * c.headWidth)
    toQ = try Linear(w / "q_proj", inputs: c.width, outputs: queries, bias: c.hasInputBias)
    toK = try Linear(w / "k_proj", inputs: c.width, outputs: keys, bias: c.hasInputBias)
    toV = try Linear(w / "v_proj", inputs: c.width, outputs: keys, bias: c.hasInputBias)
    toOut = try Linear(w / "o_proj", inputs: queries, outputs: c.width, bias: c.hasOutputBias)
    func norm(_ name: String) throws -> RMSNorm? {
      c.normalizesHeads ? try RMSNorm(w / name, width: c.headWidth, eps: c.normEps) : nil
    }
    normQ = try norm("q_norm")
    normK = try norm("k_norm")
    self.layer = layer
    configuration = c
  }

  /// - Parameter x: [N, T, D]
  /// - Returns: [N, T, D]
  func callAsFunction(_ x: Tensor, _ context: DecoderContext) throws -> Tensor {
    let c = configuration
    let (prompts, tokens) = (x.size(0), x.size(1))
    func heads(_ y: Tensor) throws -> Tensor { try y.unflatten(-1, [-1, c.headWidth]) }
    var (q, k) = (try heads(toQ(x)), try heads(toK(x)))
    if let normQ, let normK { (q, k) = (try normQ(q), try normK(k)) }
    // One rotation for both.
    let rotated = try context.positions.rotate(Tensor.cat([q, k], 2)).transpose(1, 2)
    q = try rotated.narrow(1, 0, c.heads)
    k = try rotated.narrow(1, c.heads, c.keyHeads)
    let v = try heads(toV(x)).transpose(1, 2)
    let (keys, values) = try context.cache.append(k, v, layer: layer)
    let out: Tensor
    if tokens == 1 {
      // The query heads of a group are queries of the same head, so that nothing is repeated.
      let grouped = try q.reshape([prompts, c.keyHeads, c.groups, c.headWidth])
      out = try Tensor.scaledDotProductAttention(grouped, keys, values, mask: context.mask)
        .reshape([prompts, c.heads, 1, c.headWidth])
    } else {
      out = try Tensor.scaledDotProductAttention(
        q, repeated(keys), repeated(values), mask: context.mask, isCausal: context.mask == nil)
    }
    return try toOut(out.transpose(1, 2).flatten(from: 2))
  }

  /// [N, K, L, E] to [N, H, L, E]
  private func repeated(_ x: Tensor) throws -> Tensor {
    configuration.groups == 1 ? x : try x.repeatInterleave(configuration.groups, 1)
  }
}
