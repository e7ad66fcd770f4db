// B batch, A axes, T tokens, D width, H heads.

import Foundation
import Synchronization
import Torch

/// Rotary position embedding over seconds and pixels (Su et al., "RoFormer", 2021; ltx-core,
/// `transformer/rope.py`).
///
/// The frequencies span the full inner width, not one head: every head has different frequencies.
public struct RotaryEmbedding: Sendable {
  /// The layout within a head of the two elements that are rotated together.
  public enum Layout: String, Sendable {
    /// The first half of a head with the second half.
    case split
    /// Neighboring elements.
    case interleaved
  }

  /// Tables for a sequence: split [B, H, T, D/H/2], interleaved [B, T, D].
  public let cos: Tensor
  public let sin: Tensor
  public let layout: Layout

  /// - Parameters:
  ///   - positions: [B, A, T, 2], the start and end of each token: seconds, then pixels. Their
  ///     middle is used.
  ///   - width: D, over which the frequencies are spread.
  ///   - maxPositions: The max position of each axis.
  ///   - dtype: The dtype of the tables.
  public init(
    positions: Tensor, width: Int, heads: Int, maxPositions: [Double], theta: Double,
    isDoublePrecision: Bool,
    layout: Layout, dtype: DType
  ) throws {
    let axes = maxPositions.count
    guard positions.rank == 4, positions.size(1) == axes, positions.size(3) == 2 else {
      throw TorchError(
        .shape, operation: "rope",
        message: "positions are \(positions.shape); expected [B, \(axes), T, 2]")
    }
    let grid = try Self.frequencies(
      count: width / (2 * axes), theta: theta, isDoublePrecision: isDoublePrecision
    ).uploaded(to: positions.device)
    let middle = try (positions.select(3, 0) + positions.select(3, 1)) / 2
    // [B, T, A]: positions from -1 to 1
    let fractions = try Tensor.stack(
      (0..<axes).map { try middle.select(1, $0) / maxPositions[$0] }, -1)
    // Phases are ordered by frequency, the axes of one frequency next to each other.
    let phases = try (grid * (fractions.unsqueeze(-1) * 2 - 1)).transpose(-1, -2).flatten(
      from: 2, through: -1)
    var cos = try phases.cos()
    var sin = try phases.sin()
    if layout == .interleaved {
      cos = try cos.repeatInterleave(2, -1)
      sin = try sin.repeatInterleave(2, -1)
    }
    // The remainder that the axes don't divide is not rotated, and comes first.
    let padding = (layout == .split ? width / 2 : width) - cos.size(2)
    cos = try cos.pad([padding, 0], value: 1)
    sin = try sin.pad([padding, 0], value: 0)
    if layout == .split {
      cos = try cos.unflatten(-1, [heads, -1]).transpose(1, 2)
      sin = try sin.unflatten(-1, [heads, -1]).transpose(1, 2)
    }
    self.cos = try cos.to(dtype)
    self.sin = try sin.to(dtype)
    self.layout = layout
  }

  /// theta^linspace(0, 1, count) * pi / 2 as float32.
  ///
  /// Phases reach thousands of radians, so the last bit of the grid matters: with
  /// `isDoublePrecision` it is computed in float64 and rounded once, otherwise in float32
  /// throughout.
  static func frequencies(count: Int, theta: Double, isDoublePrecision: Bool) throws -> Tensor {
    guard isDoublePrecision else {
      let exponents = try Tensor.linspace(from: 0, to: 1, steps: count, dtype: .float32)
      return try Tensor.pow(Scalar(theta), exponents) * Double.pi / 2
    }
    let step = count > 1 ? 1 / Double(count - 1) : 0
    let exponents = (0..<count).map { $0 == count - 1 && count > 1 ? 1 : Double($0) * step }
    return try Tensor(exponents.map { pow(theta, $0) * Double.pi / 2 }).to(.float32)
  }

  /// Rotates queries or keys.
  ///
  /// - Parameter x: [B, T, D]
  /// - Returns: [B, H, T, D/H]
  func rotate(_ x: Tensor, heads: Int) throws -> Tensor {
    switch layout {
    case .split:
      return try x.rotatedHalves(cos: cos, sin: sin)
    case .interleaved:
      let pairs = try x.unflatten(-1, [-1, 2])
      let turned = try Tensor.stack([-pairs.select(-1, 1), pairs.select(-1, 0)], -1).flatten(
        from: -2, through: -1)
      return try (x * cos).addingProduct(turned, sin).unflatten(-1, [heads, -1]).transpose(1, 2)
    }
  }
}

/// The last rotation of a model's attention. A run passes the same tensor of positions for all
/// samples of one shape, whose tables are then computed once.
final class RotaryCache: Sendable {
  private let last = Mutex<(positions: Tensor, dtype: DType, embedding: RotaryEmbedding)?>(nil)

  /// - Parameters:
  ///   - positions: positions that are not changed in place.
  ///   - make: computes the rotation.
  func embedding(
    of positions: Tensor, dtype: DType, _ make: () throws -> RotaryEmbedding
  ) rethrows -> RotaryEmbedding {
    if let last = last.withLock({ $0 }), last.positions === positions, last.dtype == dtype {
      return last.embedding
    }
    // The old tables are released first: they are as large as the new ones.
    last.withLock { $0 = nil }
    let embedding = try make()
    last.withLock { $0 = (positions, dtype, embedding) }
    return embedding
  }
}
