import Torch

/// y = x W^T + b, plus what low-rank adapters add.
///
/// What the layer is made of is decided by the scope that it is built from.
public struct Linear: Sendable {
  private enum Matrix: Sendable {
    case plain(Tensor)
    case quantized(QuantizedWeight)

    /// [outputs, inputs]
    var numbers: Tensor {
      get throws {
        switch self {
        case .plain(let weight): weight
        case .quantized(let matrix): try matrix.expanded()
        }
      }
    }
  }

  private let matrix: Matrix
  public let inputs: Int
  public let outputs: Int
  /// [outputs]
  public let bias: Tensor?
  public let adapters: [LowRankAdapter]
  /// [outputs]: of the weight, where an adapter has a magnitude.
  private let rowNorms: Tensor?
  /// What magnitudes come to, of the adapters that training does not change; nil for others.
  private let factors: [Tensor?]

  /// - Parameters:
  ///   - inputs, outputs: sizes that the configuration asks for; nil takes the checkpoint's.
  ///   - bias: whether the layer has one, as the configuration says.
  public init(_ w: Weights, inputs: Int? = nil, outputs: Int? = nil, bias: Bool = true) throws {
    let entry = try w.entry("weight", shape: [outputs ?? -1, inputs ?? -1])
    (self.outputs, self.inputs) = (entry.shape[0], entry.shape[1])
    let matrix =
      try w.quantizedMatrix("weight", entry).map(Matrix.quantized) ?? .plain(w.tensor("weight"))
    self.matrix = matrix
    self.bias = bias ? try w.tensor("bias", shape: [self.outputs]) : nil
    adapters = try w.adapters(inputs: self.inputs, outputs: self.outputs) {
      try matrix.numbers.rowNorms()
    }
    for adapter in adapters {
      try adapter.requireFit(w.path, of: w.file, inputs: self.inputs, outputs: self.outputs)
    }
    guard adapters.contains(where: { $0.magnitude != nil }) else {
      (rowNorms, factors) = (nil, [])
      return
    }
    let numbers = try matrix.numbers
    let rowNorms = try numbers.rowNorms()
    self.rowNorms = rowNorms
    factors = try adapters.map {
      $0.down.requiresGrad || $0.up.requiresGrad || $0.magnitude?.requiresGrad ?? false
        ? nil : try $0.factor(numbers, rowNorms: rowNorms)
    }
  }

  /// The type of the weights' numbers, however they are kept.
  public var dtype: DType {
    switch matrix {
    case .plain(let weight): weight.dtype
    case .quantized(let matrix): matrix.dtype
    }
  }

  /// [outputs, inputs]; of a layer that keeps its matrix in eight bits, expanded.
  public var weight: Tensor { get throws { try matrix.numbers } }

  /// - Parameter x: [..., inputs]
  /// - Returns: [..., outputs]
  public func callAsFunction(_ x: Tensor) throws -> Tensor {
    guard rowNorms == nil else { return try decomposed(x) }
    let first = adapters.first.flatMap { $0.isPlain ? $0 : nil }
    let rest = first == nil ? adapters[...] : adapters.dropFirst()
    var y =
      switch (matrix, first) {
      case (.quantized(let matrix), let first): try matrix(x, bias, adaptedBy: first)
      case (.plain(let weight), let first?):
        try x.linear(
          weight, bias, adaptedBy: first.down, first.up, scale: first.strength * first.scale)
      case (.plain(let weight), nil): try x.linear(weight, bias)
      }
    for adapter in rest { y = try (y + adapter.change(x)).to(y.dtype) }
    return y
  }

  /// x W^T
  private func product(_ x: Tensor) throws -> Tensor {
    switch matrix {
    case .plain(let weight): try x.linear(weight)
    case .quantized(let matrix): try matrix(x, nil)
    }
  }

  /// With adapters of which one at least has a magnitude. Each changes the layer as if it were
  /// alone.
  private func decomposed(_ x: Tensor) throws -> Tensor {
    let base = try product(x)
    var y = try bias.map { try (base + $0).to(base.dtype) } ?? base
    for (adapter, fixed) in zip(adapters, factors) {
      let factor = try fixed ?? rowNorms.flatMap { try adapter.factor(weight, rowNorms: $0) }
      let change =
        if let factor { try adapter.change(x, base: base, factor: factor, product: product) } else {
          try adapter.change(x)
        }
      y = try (y + change).to(y.dtype)
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
