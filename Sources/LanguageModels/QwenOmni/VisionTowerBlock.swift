// P patches, M tokens (merged patches), D width, H heads, E width of a head, W width of the
// language model.

import NN
import Torch

/// One block of a vision tower: attention inside spans and a feed-forward network, each after a
/// normalization.
struct VisionTowerBlock: Sendable {
  private let norm1: VisionTowerNorm
  private let norm2: VisionTowerNorm
  private let attention: VisionTowerAttention
  private let feedForward: VisionTowerFeedForward

  init(_ w: Weights, _ c: VisionConfiguration) throws {
    norm1 = try VisionTowerNorm(w / "norm1", width: c.width, c.family)
    norm2 = try VisionTowerNorm(w / "norm2", width: c.width, c.family)
    attention = try VisionTowerAttention(w / "attn", c)
    feedForward = try VisionTowerFeedForward(w / "mlp", c)
  }

  /// - Parameter x: [P, D]
  func callAsFunction(
    _ x: Tensor, _ spans: AttentionSpans, _ rotation: VisionRotation
  ) throws -> Tensor {
    let attended = try x + attention(norm1(x), spans, rotation)
    return try attended + feedForward(norm2(attended))
  }
}

/// RMSNorm in Qwen2.5-Omni, LayerNorm in Qwen3-Omni.
enum VisionTowerNorm: Sendable {
  case rootMeanSquare(RMSNorm)
  case layer(LayerNorm)

  private static let eps = 1e-6

  init(_ w: Weights, width: Int, _ family: QwenOmniFamily) throws {
    self =
      switch family {
      case .qwen25: .rootMeanSquare(try RMSNorm(w, width: width, eps: Self.eps))
      case .qwen3: .layer(try LayerNorm(w, width: width, eps: Self.eps))
      }
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor {
    switch self {
    case .rootMeanSquare(let norm): try norm(x)
    case .layer(let norm): try norm(x)
    }
  }
}

/// Attention with rotated queries and keys. Qwen3-Omni has the three projections in one matrix.
private struct VisionTowerAttention: Sendable {
  private let projections: [Linear]
  private let out: Linear
  private let heads: Int

  init(_ w: Weights, _ c: VisionConfiguration) throws {
    projections =
      switch c.family {
      case .qwen25:
        try ["q", "k", "v"].map { try Linear(w / $0, inputs: c.width, outputs: c.width) }
      case .qwen3: [try Linear(w / "qkv", inputs: c.width, outputs: 3 * c.width)]
      }
    out = try Linear(w / "proj", inputs: c.width, outputs: c.width)
    heads = c.heads
  }

  /// - Parameter x: [P, D]
  func callAsFunction(
    _ x: Tensor, _ spans: AttentionSpans, _ rotation: VisionRotation
  ) throws -> Tensor {
    let projected =
      try projections.count == 1 ? projections[0](x).chunk(3, -1) : projections.map { try $0(x) }
    let parts = try projected.map(split)
    return try out(
      spans.attend(rotation.rotate(parts[0]), rotation.rotate(parts[1]), parts[2]))
  }

  /// [P, D] to [P, H, E]
  private func split(_ x: Tensor) throws -> Tensor { try x.unflatten(-1, [heads, -1]) }
}

/// Gated by SiLU in Qwen2.5-Omni; two layers with a GELU by tanh in Qwen3-Omni.
private enum VisionTowerFeedForward: Sendable {
  case gated(gate: Linear, up: Linear, down: Linear)
  case plain(up: Linear, down: Linear)

  init(_ w: Weights, _ c: VisionConfiguration) throws {
    func up(_ name: String) throws -> Linear {
      try Linear(w / name, inputs: c.width, outputs: c.feedForwardWidth)
    }
    func down(_ name: String) throws -> Linear {
      try Linear(w / name, inputs: c.feedForwardWidth, outputs: c.width)
    }
    self =
      switch c.family {
      case .qwen25:
        .gated(gate: try up("gate_proj"), up: try up("up_proj"), down: try down("down_proj"))
      case .qwen3: .plain(up: try up("linear_fc1"), down: try down("linear_fc2"))
      }
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor {
    switch self {
    case .gated(let gate, let up, let down): try down(gate(x).silu() * up(x))
    case .plain(let up, let down): try down(up(x).gelu(approximate: "tanh"))
    }
  }
}

/// Makes one token of the language model from each block of patches.
struct VisionTowerMerger: Sendable {
  private let norm: VisionTowerNorm
  private let normalizesTokens: Bool
  private let inner: Linear
  private let outer: Linear
  private let patchesPerToken: Int

  /// - Parameter normalizesTokens: Whether the patches of a block are normalized together instead
  ///   of one by one.
  init(_ w: Weights, _ c: VisionConfiguration, normalizesTokens: Bool) throws {
    let joined = c.width * c.patchesPerToken
    norm = try VisionTowerNorm(w / "ln_q", width: normalizesTokens ? joined : c.width, c.family)
    inner = try Linear(w / "mlp" / 0, inputs: joined, outputs: joined)
    outer = try Linear(w / "mlp" / 2, inputs: joined, outputs: c.outputWidth)
    patchesPerToken = c.patchesPerToken
    self.normalizesTokens = normalizesTokens
  }

  /// - Parameter x: [P, D]
  /// - Returns: [M, W]
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    func joined(_ x: Tensor) throws -> Tensor {
      try x.unflatten(0, [-1, patchesPerToken]).flatten(from: 1, through: 2)
    }
    let tokens = try normalizesTokens ? norm(joined(x)) : joined(norm(x))
    return try outer(inner(tokens).gelu())
  }
}
