// N prompts, S tokens, D width, H query heads, K key heads, E width of a head.

import NN
import Torch

/// Causal attention in which groups of query heads share a head of keys and values (Ainslie et al.,
/// "GQA", 2023), with queries and keys normalized per head before the rotation ("Gemma 3 Technical
/// Report", 2025).
struct Gemma3Attention: Sendable {
  private let toQ: Linear
  private let toK: Linear
  private let toV: Linear
  private let toOut: Linear
  private let normQ: Gemma3RMSNorm
  private let normK: Gemma3RMSNorm
  private let configuration: Gemma3Configuration

  init(_ w: Weights, configuration c: Gemma3Configuration) throws {
    let bias = c.hasAttentionBias
    toQ = try Linear(w / "q_proj", inputs: c.width, outputs: c.heads * c.headWidth, bias: bias)
    toK = try Linear(w / "k_proj", inputs: c.width, outputs: c.keyHeads * c.headWidth, bias: bias)
    toV = try Linear(w / "v_proj", inputs: c.width, outputs: c.keyHeads * c.headWidth, bias: bias)
    toOut = try Linear(w / "o_proj", inputs: c.heads * c.headWidth, outputs: c.width, bias: bias)
    normQ = try Gemma3RMSNorm(w / "q_norm", width: c.headWidth, eps: c.normEps)
    normK = try Gemma3RMSNorm(w / "k_norm", width: c.headWidth, eps: c.normEps)
    configuration = c
  }

  /// - Parameters:
  ///   - x: [N, S, D]
  ///   - mask: [N, 1, S, S], added to the scores.
  /// - Returns: [N, S, D]
  func callAsFunction(_ x: Tensor, mask: Tensor, positions: Gemma3Positions) throws -> Tensor {
    let q = try positions.rotate(normQ(split(toQ(x))))
    let k = try positions.rotate(normK(split(toK(x))))
    let groups = configuration.heads / configuration.keyHeads
    let out = try Tensor.scaledDotProductAttention(
      q, k.repeatInterleave(groups, 1), split(toV(x)).repeatInterleave(groups, 1), mask: mask,
      scale: configuration.attentionScale)
    return try toOut(out.transpose(1, 2).flatten(from: 2, through: 3))
  }

  /// [N, S, H * E] to [N, H, S, E]
  private func split(_ x: Tensor) throws -> Tensor {
    try x.unflatten(-1, [-1, configuration.headWidth]).transpose(1, 2)
  }
}

/// The tables of a rotary position embedding (Su et al., "RoFormer", 2021) over S positions. The
/// first half of a head is rotated with the second.
struct Gemma3Positions: Sendable {
  /// [S, E/2]
  private let cos: Tensor
  private let sin: Tensor

  init(
    _ rotation: Gemma3Configuration.Rotation, positions: Range<Int>, headWidth: Int, dtype: DType,
    device: Device
  ) throws {
    let exponents =
      try Tensor.arange(to: Scalar(headWidth), step: 2, dtype: .float32) / Double(headWidth)
    let frequencies =
      try Tensor.pow(Scalar(rotation.theta), exponents).reciprocal() / rotation.factor
    let places = try Tensor.arange(to: Scalar(positions.upperBound), dtype: .float32)
      .narrow(0, positions.lowerBound, positions.count)
    let phases = try places.unsqueeze(-1) * frequencies
    cos = try phases.cos().to(device, dtype)
    sin = try phases.sin().to(device, dtype)
  }

  /// - Parameter x: [N, H, S, E]
  func rotate(_ x: Tensor) throws -> Tensor {
    let halves = try x.chunk(2, -1)
    return try Tensor.cat(
      [halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin], -1)
  }
}

/// Normalization by the root mean square, whose learned scale is 1 + weight, in float32 throughout.
struct Gemma3RMSNorm: Sendable {
  /// [width], 1 + weight in float32
  private let scale: WeightSlot
  private let eps: Double

  init(_ w: Weights, width: Int, eps: Double) throws {
    scale = try w.slot("weight", shape: [width]) { try $0.to(.float32) + 1 }
    self.eps = eps
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor {
    let scale = scale.tensor
    return try x.to(.float32).rmsNorm([scale.size(0)], weight: scale, eps: eps).to(x.dtype)
  }
}
