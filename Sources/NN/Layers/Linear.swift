// O outputs, I inputs.

import Torch

/// y = x W^T + b, plus the changes of its adapters.
///
/// The scope that the layer is built from decides how its weight is stored, where it lives, and
/// which adapters it has.
public struct Linear: Sendable {
  private let stored: any StoredWeight
  private let biasSlot: WeightSlot?
  public let inputs: Int
  public let outputs: Int
  public let adapters: [LowRankAdapter]
  /// [O]: of the weight, if an adapter has a magnitude.
  private let rowNorms: Tensor?
  /// The factors that magnitudes come to, of the adapters that training does not change; nil for
  /// others.
  private let factors: [Tensor?]

  /// - Parameters:
  ///   - inputs, outputs: the sizes that the configuration asks for; nil takes the checkpoint's.
  ///   - bias: whether the layer has a bias, as the configuration says.
  public init(_ w: Weights, inputs: Int? = nil, outputs: Int? = nil, bias: Bool = true) throws {
    let stored = try w.storedWeight("weight", shape: [outputs ?? -1, inputs ?? -1])
    self.stored = stored
    let shape = stored.shape
    (self.outputs, self.inputs) = (shape[0], shape[1])
    biasSlot = bias ? try w.slot("bias", shape: [self.outputs]) : nil
    adapters = try w.adapters(inputs: self.inputs, outputs: self.outputs, rowNorms: stored.rowNorms)
    for adapter in adapters {
      try adapter.requireFit(w.path, of: w.file, inputs: self.inputs, outputs: self.outputs)
    }
    guard adapters.contains(where: { $0.magnitude != nil }) else {
      (rowNorms, factors) = (nil, [])
      return
    }
    let weight = try stored.dequantized()
    let rowNorms = try weight.rowNorms()
    self.rowNorms = rowNorms
    factors = try adapters.map {
      $0.down.requiresGrad || $0.up.requiresGrad || $0.magnitude?.requiresGrad ?? false
        ? nil : try $0.factor(weight, rowNorms: rowNorms)
    }
  }

  /// The dtype of the weight's values, whatever it is stored in.
  public var dtype: DType { stored.dtype }

  /// [O, I]: the values of the weight.
  public var weight: Tensor { get throws { try stored.dequantized() } }

  /// [O]
  public var bias: Tensor? { biasSlot?.tensor }

  /// - Parameter x: [..., I]
  /// - Returns: [..., O]
  public func callAsFunction(_ x: Tensor) throws -> Tensor {
    guard rowNorms == nil else { return try decomposed(x) }
    // The first adapter may be added in the operation that multiplies.
    let first = adapters.first.flatMap { $0.isPlain ? $0 : nil }
    let rest = first == nil ? adapters[...] : adapters.dropFirst()
    var y = try stored.matmul(x, bias, adding: first?.term)
    for adapter in rest { y = try (y + adapter.change(x)).to(y.dtype) }
    return y
  }

  /// With adapters of which one at least has a magnitude. Each changes the layer as if it were
  /// alone.
  private func decomposed(_ x: Tensor) throws -> Tensor {
    let base = try stored.matmul(x)
    var y = try bias.map { try (base + $0).to(base.dtype) } ?? base
    for (adapter, fixed) in zip(adapters, factors) {
      let factor = try fixed ?? rowNorms.flatMap { try adapter.factor(weight, rowNorms: $0) }
      let change =
        if let factor {
          try adapter.change(x, base: base, factor: factor) { try stored.matmul($0) }
        } else {
          try adapter.change(x)
        }
      y = try (y + change).to(y.dtype)
    }
    return y
  }
}
