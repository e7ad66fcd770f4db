// O outputs, I inputs.

import Torch

/// y = x W^T + b, plus the changes of its adapters.
///
/// The scope that the layer is built from determines the storage and the device of its weight, and
/// its adapters.
public struct Linear: Sendable {
  private let layer: BaseLayer
  private let biasSlot: WeightSlot?
  public let adapters: [any Adapter]

  /// - Parameters:
  ///   - inputs, outputs: The sizes from the configuration; nil uses the checkpoint's.
  ///   - bias: Whether the configuration has a bias for the layer.
  public init(_ w: Weights, inputs: Int? = nil, outputs: Int? = nil, bias: Bool = true) throws {
    let stored = try w.storedWeight("weight", shape: [outputs ?? -1, inputs ?? -1])
    layer = BaseLayer(weight: stored, device: w.device)
    biasSlot = bias ? try w.slot("bias", shape: [layer.outputs]) : nil
    adapters = try w.adapters(of: layer)
  }

  public var inputs: Int { layer.inputs }
  public var outputs: Int { layer.outputs }

  /// The dtype of the weight's values, whatever its storage.
  public var dtype: DType { layer.weight.dtype }

  /// [O, I]: the values of the weight.
  public var weight: Tensor { get throws { try layer.weight.dequantized() } }

  /// [O]
  public var bias: Tensor? { biasSlot?.tensor }

  /// - Parameter x: [..., I]
  /// - Returns: [..., O]
  public func callAsFunction(_ x: Tensor) throws -> Tensor {
    guard !adapters.contains(where: { type(of: $0).dependsOnWeight }) else {
      return try separately(x)
    }
    // The first adapter may be added in the same operation as the multiplication.
    let term = adapters.first?.lowRankTerm
    var y = try layer.weight.matmul(x, bias, adding: term)
    for adapter in term == nil ? adapters[...] : adapters.dropFirst() {
      y = try (y + adapter.change(x, of: layer, base: nil)).to(y.dtype)
    }
    return y
  }

  /// The output with an adapter that depends on the weight. Each such adapter changes the layer as
  /// if it were the only one.
  private func separately(_ x: Tensor) throws -> Tensor {
    let base = try layer.weight.matmul(x)
    var y = try bias.map { try (base + $0).to(base.dtype) } ?? base
    for adapter in adapters { y = try (y + adapter.change(x, of: layer, base: base)).to(y.dtype) }
    return y
  }
}
