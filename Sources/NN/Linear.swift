import Torch

/// y = x W^T + b, plus what low-rank adapters add.
///
/// What the layer is made of is decided by the scope that it is built from.
public struct Linear: Sendable {
  /// [outputs, inputs]
  public let weight: Tensor
  /// [outputs]
  public let bias: Tensor?
  public let adapters: [LowRankAdapter]

  /// - Parameters:
  ///   - inputs, outputs: sizes that the configuration asks for; nil takes the checkpoint's.
  ///   - bias: whether the layer has one, as the configuration says.
  public init(_ w: Weights, inputs: Int? = nil, outputs: Int? = nil, bias: Bool = true) throws {
    weight = try w.tensor("weight", shape: [outputs ?? -1, inputs ?? -1])
    self.bias = bias ? try w.tensor("bias", shape: [weight.size(0)]) : nil
    adapters = try w.adapters(inputs: weight.size(1), outputs: weight.size(0))
    for adapter in adapters {
      try adapter.requireFit(w.path, of: w.file, inputs: weight.size(1), outputs: weight.size(0))
    }
  }

  /// - Parameter x: [..., inputs]
  /// - Returns: [..., outputs]
  public func callAsFunction(_ x: Tensor) throws -> Tensor {
    guard let first = adapters.first else { return try x.linear(weight, bias) }
    var y = try x.linear(weight, bias, adaptedBy: first.down, first.up, scale: first.scale)
    for adapter in adapters.dropFirst() {
      y = try (y + adapter.change(x)).to(y.dtype)
    }
    return y
  }
}

/// Normalisation by the root mean square over the last dimension, with a learned scale
/// (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019).
public struct RMSNorm: Sendable {
  /// [width]
  public let weight: Tensor
  public let eps: Double

  public init(_ w: Weights, width: Int, eps: Double) throws {
    weight = try w.tensor("weight", shape: [width])
    self.eps = eps
  }

  public func callAsFunction(_ x: Tensor) throws -> Tensor {
    try x.rmsNorm(weight: weight, eps: eps)
  }
}
