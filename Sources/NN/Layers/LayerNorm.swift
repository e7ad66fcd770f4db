import Torch

/// Normalization by mean and variance over the last dimension, with a learned scale and shift
/// (Ba et al., "Layer Normalization", 2016).
public struct LayerNorm: Sendable {
  private let weightSlot: WeightSlot
  private let biasSlot: WeightSlot
  public let eps: Double

  public init(_ w: Weights, width: Int, eps: Double) throws {
    weightSlot = try w.slot("weight", shape: [width])
    biasSlot = try w.slot("bias", shape: [width])
    self.eps = eps
  }

  public func callAsFunction(_ x: Tensor) throws -> Tensor {
    let weight = weightSlot.tensor
    return try x.layerNorm([weight.size(0)], weight: weight, bias: biasSlot.tensor, eps: eps)
  }
}
