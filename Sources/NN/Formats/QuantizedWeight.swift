// O outputs, I inputs of a linear layer.

import TensorFiles
import Torch

/// In how many bits the linear layers of a model keep their matrices.
public struct WeightStorage: Sendable {
  enum Form: Sendable {
    case asStored
    case expanded
    /// In eight bits; rounded in the given type, or in the matrix's own.
    case rounded(to: DType, in: DType?)
  }

  let form: Form
  /// By the path of a layer: whether its matrix stays as it is stored.
  let isExcluded: @Sendable (String) -> Bool

  init(_ form: Form, isExcluded: @escaping @Sendable (String) -> Bool = { _ in false }) {
    self.form = form
    self.isExcluded = isExcluded
  }

  /// As the file has them: matrices in eight bits stay so, and are expanded each time their layer
  /// runs. The numbers are those of `expanded`; memory is half or a quarter of its.
  public static let asStored = WeightStorage(.asStored)
  /// In the policy's element type. Layers don't expand anything while they run.
  public static let expanded = WeightStorage(.expanded)
  /// Rounded to int8 with a scale for each row while they are read: about half the memory of
  /// bfloat16. Matrices that the file has in eight bits already stay as they are.
  public static let int8 = WeightStorage(.rounded(to: .int8, in: .float32))

  /// As `int8`, but in the numbers of optimum-quanto, which computes scales and quotients in the
  /// matrix's own element type, and also in `.float8E4M3`.
  ///
  /// - Precondition: `elements` is one of the two.
  public static func quanto(
    _ elements: DType, excluding isExcluded: @escaping @Sendable (String) -> Bool
  )
    -> WeightStorage
  {
    precondition(
      [.int8, .float8E4M3].contains(elements), "\(elements) is no eight-bit type of quanto's")
    return WeightStorage(.rounded(to: elements, in: nil), isExcluded: isExcluded)
  }
}

/// A weight in eight bits an element, with the scale of its elements.
public struct QuantizedWeight: StoredWeight {
  private let elementSlot: WeightSlot
  private let scaleSlot: WeightSlot?
  /// The type of the numbers that the matrix stands for.
  public let dtype: DType
  /// Whether products are multiplied by the factors, and not the elements.
  ///
  /// Whole numbers up to 127 and numbers of eight bits are exact in bfloat16, so that the product
  /// is the better place for the rows' scales: nothing of the size of the matrix is made in
  /// float32, and no element is rounded a second time.
  private let scalesProduct: Bool
  /// What the matrix's inputs were rotated by before it was quantized. The layer's inputs are
  /// rotated the same way, which is cheaper than rotating the matrix back whenever the layer runs,
  /// and moves no element of it.
  private let rotation: HadamardRotation?

  /// Rounds a matrix to eight bits an element, with the largest of each row at the end of the
  /// range: 127 or, of the floating-point type, 448. In int8 a number moves by half of a 127th of
  /// its row's largest one at most.
  ///
  /// - Parameters:
  ///   - matrix: [O, I] in a floating-point type, which stays the type of the numbers.
  ///   - elementType: `.int8` or `.float8E4M3`.
  ///   - arithmetic: in which scales and quotients are computed.
  init(
    rounding matrix: Tensor, to elementType: DType, in arithmetic: DType, key: String = "weight"
  ) throws {
    let (rows, columns) = (matrix.size(0), matrix.size(1))
    let elements = try Tensor.empty([rows, columns], dtype: elementType, device: matrix.device)
    let factors = try Tensor.empty([rows, 1], device: matrix.device)
    let isWhole = elementType == .int8
    let end = isWhole ? 127.0 : 448
    // A few rows at a time, so that what is made on the way stays in the processor's caches.
    let step = max(1, Self.numbersAtOnce / max(columns, 1))
    for start in stride(from: 0, to: rows, by: step) {
      let count = min(step, rows - start)
      let numbers = try matrix.narrow(0, start, count).to(arithmetic)
      // A row of zeros has no scale; any will do.
      let largest = try numbers.abs().amax([1], keepdim: true)
        .clamped(min: Scalar(arithmetic.smallestNormal * end))
      let scale = try largest / end
      try factors.narrow(0, start, count).copy_(scale)
      let quotients = try numbers / scale
      let rounded = isWhole ? try quotients.round() : quotients
      // Rounded scales may take a quotient beyond the end.
      try rounded.clamp_(
        min: Scalar(isWhole && arithmetic != .float32 ? -128 : -end), max: Scalar(end))
      try elements.narrow(0, start, count).copy_(rounded)
    }
    elementSlot = WeightSlot(key: key, tensor: elements)
    scaleSlot = WeightSlot(key: "\(key)_scale", tensor: factors)
    dtype = matrix.dtype
    scalesProduct = true
    rotation = nil
  }

  private static let numbersAtOnce = 1 << 18

  /// - Parameter scale: [1] or [O, 1].
  init(
    elements: WeightSlot, scale: WeightSlot?, dtype: DType, rotation: HadamardRotation? = nil
  ) {
    elementSlot = elements
    scaleSlot = scale
    self.dtype = dtype
    self.rotation = rotation
    scalesProduct =
      elements.tensor.dtype == .int8 && (scale?.tensor.rank == 2 || rotation != nil)
  }

  /// [O, I]: int8 or an eight-bit floating-point type.
  public var elements: Tensor { elementSlot.tensor }
  /// [1] or [O, 1], float32; nil where the elements are the numbers.
  public var factors: Tensor? { scaleSlot?.tensor }
  public var shape: [Int] { elementSlot.tensor.shape }
  public var slots: [WeightSlot] { [elementSlot] + [scaleSlot].compactMap { $0 } }

  /// Whether its elements are not the numbers themselves.
  var isScaled: Bool { scaleSlot != nil }

  /// The values, [O, I]: products are made in float32 and rounded once.
  public func dequantized() throws -> Tensor {
    guard let factors else { return try elements.to(dtype) }
    let shape = factors.rank == 2 ? [-1] + Array(repeating: 1, count: elements.rank - 1) : [1]
    let values = try elements.to(.float32) * factors.reshape(shape)
    return try (rotation.map { try $0(values) } ?? values).to(dtype)
  }

  public func matmul(_ x: Tensor, _ bias: Tensor?, adding term: LowRankTerm?) throws -> Tensor {
    guard let term else {
      return try (rotation.map { try $0(x) } ?? x).linear(
        quantized: elements, factors: factors, dtype: dtype, scalesProduct: scalesProduct, bias)
    }
    guard !scalesProduct else {
      let y = try matmul(x, bias)
      return try (y + term(x)).to(y.dtype)
    }
    return try x.linear(
      elements, factors: factors, dtype: dtype, bias, adaptedBy: term.down, term.up,
      scale: term.scale)
  }
}

extension DType {
  var isEightBitFloat: Bool { self == .float8E4M3 || self == .float8E5M2 }
}
