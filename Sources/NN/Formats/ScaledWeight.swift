// O outputs, I inputs of a linear layer.

import Torch

/// A weight with eight-bit elements, whose values are the elements times a scale.
struct ScaledWeight: StoredWeight {
  private let elementSlot: WeightSlot
  private let scaleSlot: WeightSlot?
  let dtype: DType
  /// Whether products are multiplied by the scale instead of the elements.
  ///
  /// Integers up to 127 are exact in bfloat16, so scales of rows are better applied to the product:
  /// no float32 copy of the weight is needed, and no element is rounded a second time.
  private let scalesProduct: Bool
  /// The rotation of the inputs that was applied to the weight before it was quantized. The layer's
  /// inputs are rotated the same way, which is cheaper than rotating the weight back at every call,
  /// and doesn't round its elements.
  private let rotation: HadamardRotation?

  /// - Parameters:
  ///   - elements: [O, I], int8 or a floating-point dtype.
  ///   - scale: [1] or [O, 1], float32; nil if the elements are the values.
  ///   - scalesProduct: Nil chooses the way that keeps the elements exact.
  init(
    elements: WeightSlot, scale: WeightSlot?, dtype: DType, rotation: HadamardRotation? = nil,
    scalesProduct: Bool? = nil
  ) {
    elementSlot = elements
    scaleSlot = scale
    self.dtype = dtype
    self.rotation = rotation
    self.scalesProduct =
      scalesProduct
      ?? (elements.tensor.dtype == .int8 && (scale?.tensor.rank == 2 || rotation != nil))
  }

  /// Whether the layer's inputs are rotated.
  var isRotated: Bool { rotation != nil }
  /// [O, I]
  var elements: Tensor { elementSlot.tensor }
  /// [1] or [O, 1], float32
  var scale: Tensor? { scaleSlot?.tensor }
  var shape: [Int] { elementSlot.tensor.shape }
  var slots: [WeightSlot] { [elementSlot] + [scaleSlot].compactMap { $0 } }

  /// Products are computed in float32 and rounded once.
  func dequantized() throws -> Tensor {
    guard let scale else { return try elements.to(dtype) }
    let shape = scale.rank == 2 ? [-1] + Array(repeating: 1, count: elements.rank - 1) : [1]
    let values = try elements.to(.float32) * scale.reshape(shape)
    return try (rotation.map { try $0(values) } ?? values).to(dtype)
  }

  func matmul(_ x: Tensor, _ bias: Tensor?, adding term: LowRankTerm?) throws -> Tensor {
    guard let term else {
      return try (rotation.map { try $0(x) } ?? x).linear(
        quantized: elements, factors: scale, dtype: dtype, scalesProduct: scalesProduct, bias)
    }
    guard rotation == nil else {  // the adapter's input is not rotated
      let y = try matmul(x, bias)
      return try (y + term(x)).to(y.dtype)
    }
    return try x.linear(
      elements, factors: scale, dtype: dtype, scalesProduct: scalesProduct, bias,
      adaptedBy: term.down, term.up, scale: term.scale)
  }
}

extension DType {
  var isEightBitFloat: Bool { self == .float8E4M3 || self == .float8E5M2 }
}
