// N prompts, T tokens, H heads, E width of a head.

import Torch

/// The tables of a rotary position embedding (Su et al., "RoFormer", 2021), whose frequencies turn
/// with the time, the row or the column of a token ("Qwen2-VL", 2024).
struct RotaryPositions: Sendable {
  /// [N, T, 1, E]: the cosines, the same for both halves of a head.
  let cos: Tensor
  /// [N, T, 1, E]: the sines, negative for the first half.
  let sin: Tensor

  /// Computes angles in float32 and rounds the tables to the dtype that the model computes in.
  ///
  /// - Parameter positions: [3, N, T], float32.
  init(positions: Tensor, configuration c: DecoderConfiguration, dtype: DType, device: Device)
    throws
  {
    let exponents =
      try Tensor.arange(to: Scalar(c.headWidth), step: 2, dtype: .float32) / Double(c.headWidth)
    let frequencies = try Tensor.pow(Scalar(c.theta), exponents).reciprocal()
    let chosen = try positions.indexSelect(0, Tensor(c.components))  // [E/2, N, T]
    let angles = try chosen.permute([1, 2, 0]) * frequencies
    let sines = try angles.sin()
    cos = try Tensor.cat([angles.cos(), angles.cos()], -1).unsqueeze(2).uploaded(to: device, dtype)
    sin = try Tensor.cat([-sines, sines], -1).unsqueeze(2).uploaded(to: device, dtype)
  }

  private init(cos: Tensor, sin: Tensor) { (self.cos, self.sin) = (cos, sin) }

  /// The tables of one token.
  func token(_ index: Int) throws -> RotaryPositions {
    RotaryPositions(cos: try cos.narrow(1, index, 1), sin: try sin.narrow(1, index, 1))
  }

  /// Turns the first half of each head with the second.
  ///
  /// - Parameter x: [N, T, H, E]
  func rotate(_ x: Tensor) throws -> Tensor {
    let half = x.size(-1) / 2
    let swapped = try x.unflatten(-1, [2, half]).flip([-2]).flatten(from: -2)
    return try (x * cos).addingProduct(swapped, sin)
  }
}
