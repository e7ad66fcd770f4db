// B batch, T tokens (or 1 where all tokens of a sample share a timestep), D width, N modulation
// vectors.

import Foundation
import NN
import Torch

/// Turns the timestep into modulation: a sinusoid, two linear layers, then SiLU and a linear layer
/// of N * D outputs (Chen et al., "PixArt-alpha", 2023, section 2.3).
public struct AdaLNSingle: Sendable {
  private let linear1: Linear
  private let linear2: Linear
  private let linear: Linear

  /// - Parameter vectors: N
  public init(_ w: Weights, width: Int, vectors: Int) throws {
    let embedder = w / "emb" / "timestep_embedder"
    linear1 = try Linear(embedder / "linear_1", inputs: Self.frequencies, outputs: width)
    linear2 = try Linear(embedder / "linear_2", inputs: width, outputs: width)
    linear = try Linear(w / "linear", inputs: width, outputs: vectors * width)
  }

  /// - Parameters:
  ///   - timesteps: [B, T], already scaled (0 to 1000).
  ///   - dtype: The dtype of the hidden states.
  /// - Returns: The modulation [B, T, N * D] and the embedding before it [B, T, D].
  public func callAsFunction(_ timesteps: Tensor, dtype: DType) throws -> (
    modulation: Tensor, embedding: Tensor
  ) {
    let embedding = try linear2(linear1(Self.sinusoid(timesteps).to(dtype)).silu())
    return (try linear(embedding.silu()), embedding)
  }

  private static let frequencies = 256

  /// [cos, sin] of the timestep at 128 frequencies from 1 down to 1/10000, in float32: [B, T, 256].
  static func sinusoid(_ timesteps: Tensor) throws -> Tensor {
    let half = frequencies / 2
    let exponents =
      try Tensor.arange(to: Scalar(half), dtype: .float32, device: timesteps.device) * -log(10000.0)
      / Double(half)
    let phases = try timesteps.to(.float32).unsqueeze(-1) * exponents.exp()
    return try Tensor.cat([phases.cos(), phases.sin()], -1)
  }
}

/// The modulation of a sublayer, each tensor [B, T or 1, D]: shift and scale apply to its input,
/// the gate to its output.
struct Modulation: Sendable {
  let shift: Tensor
  let scale: Tensor
  let gate: Tensor

  fileprivate init(_ rows: ArraySlice<Tensor>) {
    let first = rows.startIndex
    (shift, scale, gate) = (rows[first], rows[first + 1], rows[first + 2])
  }
}

/// The modulations of a modality's sublayers in one block.
struct BlockModulation: Sendable {
  let selfAttention: Modulation
  let feedForward: Modulation
  /// LTX-2.3 only.
  let textAttention: Modulation?

  static func rowCount(modulatesText: Bool) -> Int { modulatesText ? 9 : 6 }

  /// - Parameter rows: 6 or 9 tensors [B, T or 1, D] in the order of the checkpoint's tables.
  init(rows: [Tensor]) {
    selfAttention = Modulation(rows[0..<3])
    feedForward = Modulation(rows[3..<6])
    textAttention = rows.count == 9 ? Modulation(rows[6..<9]) : nil
  }
}

extension Tensor {
  /// x * (1 + scale) + shift
  func modulated(scale: Tensor, shift: Tensor) throws -> Tensor {
    try shift.addingProduct(self, scale + 1)
  }
}
