import Torch

/// y = x W^T + b, plus what low-rank adapters add.
///
/// What the layer is made of is decided by the scope that it is built from.
public struct Linear: Sendable {
  private enum Matrix: Sendable {
    case plain(Tensor)
    case quantised(QuantisedMatrix)
  }

  private let matrix: Matrix
  public let inputs: Int
  public let outputs: Int
  /// [outputs]
  public let bias: Tensor?
  public let adapters: [LowRankAdapter]

  /// - Parameters:
  ///   - inputs, outputs: sizes that the configuration asks for; nil takes the checkpoint's.
  ///   - bias: whether the layer has one, as the configuration says.
  public init(_ w: Weights, inputs: Int? = nil, outputs: Int? = nil, bias: Bool = true) throws {
    let entry = try w.entry("weight", shape: [outputs ?? -1, inputs ?? -1])
    (self.outputs, self.inputs) = (entry.shape[0], entry.shape[1])
    matrix = try w.quantisedMatrix("weight", entry).map(Matrix.quantised) ?? .plain(w.tensor("weight"))
    self.bias = bias ? try w.tensor("bias", shape: [self.outputs]) : nil
    adapters = try w.adapters(inputs: self.inputs, outputs: self.outputs)
    for adapter in adapters {
      try adapter.requireFit(w.path, of: w.file, inputs: self.inputs, outputs: self.outputs)
    }
  }

  /// The type of the weights' numbers, however they are kept.
  public var dtype: DType {
    switch matrix {
    case .plain(let weight): weight.dtype
    case .quantised(let matrix): matrix.dtype
    }
  }

  /// [outputs, inputs]; of a layer that keeps its matrix in eight bits, expanded.
  public var weight: Tensor {
    get throws {
      switch matrix {
      case .plain(let weight): weight
      case .quantised(let matrix): try matrix.expanded()
      }
    }
  }

  /// - Parameter x: [..., inputs]
  /// - Returns: [..., outputs]
  public func callAsFunction(_ x: Tensor) throws -> Tensor {
    var y: Tensor
    var rest = adapters[...]
    if case .quantised(let matrix) = matrix, let product = try matrix.product(x, bias) {
      y = product
    } else if let first = rest.popFirst() {
      y = try x.linear(weight, bias, adaptedBy: first.down, first.up, scale: first.scale)
    } else {
      y = try x.linear(weight, bias)
    }
    for adapter in rest { y = try (y + adapter.change(x)).to(y.dtype) }
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
