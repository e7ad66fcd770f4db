// O outputs, I inputs of a linear layer, R rank.

import Torch

/// The weight of a linear layer in memory, and its multiplication.
///
/// Its tensors are in slots, so that they can be moved between calls.
public protocol StoredWeight: Sendable {
  /// The shape of the weight's values, [O, I].
  var shape: [Int] { get }
  /// The dtype of these values.
  var dtype: DType { get }
  /// The weight's tensors.
  var slots: [WeightSlot] { get }

  /// Returns the values, [O, I].
  func dequantized() throws -> Tensor

  /// Returns x W^T + bias for x [..., I], and adds a low-rank term if one is given. A conforming
  /// type does both in one operation if it can.
  func matmul(_ x: Tensor, _ bias: Tensor?, adding term: LowRankTerm?) throws -> Tensor
}

extension StoredWeight {
  /// Moves all tensors to another device.
  func move(to device: Device) throws {
    for slot in slots where slot.tensor.device != device {
      slot.replace(with: try slot.tensor.to(device))
    }
  }

  public func matmul(_ x: Tensor, _ bias: Tensor? = nil) throws -> Tensor {
    try matmul(x, bias, adding: nil)
  }
}

/// scale * (x A^T) B^T, computed in the dtype of A, or autocast's.
public struct LowRankTerm: Sendable {
  /// A: [R, I].
  public let down: Tensor
  /// B: [O, R].
  public let up: Tensor
  public let scale: Double

  public init(down: Tensor, up: Tensor, scale: Double) {
    self.down = down
    self.up = up
    self.scale = scale
  }

  /// - Parameter x: [..., I]
  /// - Returns: [..., O]
  public func callAsFunction(_ x: Tensor) throws -> Tensor {
    let product = try x.to(down.dtype).linear(down).linear(up)
    return scale == 1 ? product : try product * scale
  }
}

extension Tensor {
  /// The length of each row of a matrix, in float32.
  func rowNorms() throws -> Tensor {
    try withoutGrad { try to(.float32).square().sum([1]).sqrt() }
  }
}
