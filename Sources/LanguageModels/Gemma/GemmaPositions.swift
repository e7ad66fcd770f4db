// N prompts, S tokens, H heads, E width of a head.

import Torch

/// The tables of a rotary position embedding (Su et al., "RoFormer", 2021) over S positions. The
/// first half of a head is rotated with the second.
struct GemmaPositions: Sendable {
  /// [S, E/2]
  private let cos: Tensor
  private let sin: Tensor

  init(
    _ rotation: GemmaConfiguration.Rotation, positions: Range<Int>, headWidth: Int, dtype: DType,
    device: Device
  ) throws {
    let places = try Tensor.arange(to: Scalar(positions.upperBound), dtype: .float32)
      .narrow(0, positions.lowerBound, positions.count)
    let phases = try places.unsqueeze(-1) * Self.frequencies(rotation, headWidth: headWidth)
    cos = try phases.cos().to(device, dtype)
    sin = try phases.sin().to(device, dtype)
  }

  /// The frequencies of a head, [E/2], in float32. All of them are those of the whole head, even if
  /// only some are used ("proportional" in `transformers`, `modeling_rope_utils.py`).
  static func frequencies(_ rotation: GemmaConfiguration.Rotation, headWidth: Int) throws -> Tensor
  {
    let exponents =
      try Tensor.arange(to: Scalar(headWidth), step: 2, dtype: .float32) / Double(headWidth)
    let frequencies =
      try Tensor.pow(Scalar(rotation.theta), exponents).reciprocal() / rotation.factor
    let used = Int(rotation.rotatedPart * Double(headWidth) / 2)
    let unused = headWidth / 2 - used
    guard unused > 0 else { return frequencies }
    return try Tensor.cat([frequencies.narrow(0, 0, used), .zeros([unused], dtype: .float32)])
  }

  /// - Parameter x: [N, H, S, E]
  func rotate(_ x: Tensor) throws -> Tensor {
    let halves = try x.chunk(2, -1)
    return try Tensor.cat(
      [halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin], -1)
  }
}
