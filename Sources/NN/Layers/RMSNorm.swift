import Torch

/// Normalization by the root mean square over the last dimension, with a learned scale
/// (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019).
public struct RMSNorm: Sendable {
  private let slot: WeightSlot
  public let eps: Double

  public init(_ w: Weights, width: Int, eps: Double) throws {
    slot = try w.slot("weight", shape: [width])
    self.eps = eps
  }

  /// [width]
  public var weight: Tensor { slot.tensor }

  public func callAsFunction(_ x: Tensor) throws -> Tensor {
    try x.rmsNorm(weight: weight, eps: eps)
  }
}
