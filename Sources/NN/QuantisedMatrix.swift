// O outputs, I inputs of a linear layer.

import TensorFiles
import Torch

/// In how many bits the linear layers of a model keep their matrices.
public enum WeightStorage: Sendable {
  /// As the file has them: matrices in eight bits stay so, and are expanded each time their layer runs. The numbers
  /// are those of `expanded`; memory is half or a quarter of its.
  case asStored
  /// In the policy's element type. Layers don't expand anything while they run.
  case expanded
  /// Rounded to int8 with a scale for each row while they are read: about half the memory of bfloat16. Matrices that
  /// the file has in eight bits already stay as they are.
  case int8
}

/// A matrix in eight bits an element, and what its elements are multiplied by.
public struct QuantisedMatrix: Sendable {
  enum Scale: Sendable {
    /// The elements are the numbers.
    case none
    case matrix(Double)
    /// [O], float32.
    case rows(Tensor)
  }

  /// [O, I]: int8 or an eight-bit floating-point type.
  public let elements: Tensor
  let scale: Scale
  /// The type of the numbers that the matrix stands for.
  let dtype: DType

  /// Rounds a matrix to whole numbers from -127 to 127, the largest of each row to +-127. A number moves by half of a
  /// 127th of its row's largest one at most.
  ///
  /// - Parameter matrix: [O, I] in a floating-point type, which stays the type of the numbers.
  init(rounding matrix: Tensor) throws {
    let (rows, columns) = (matrix.size(0), matrix.size(1))
    elements = try .empty([rows, columns], dtype: .int8, device: matrix.device)
    let factors = try Tensor.empty([rows], device: matrix.device)
    // A few rows at a time, so that what is made in float32 stays in the processor's caches.
    let step = max(1, Self.numbersAtOnce / max(columns, 1))
    for start in stride(from: 0, to: rows, by: step) {
      let count = min(step, rows - start)
      let numbers = try matrix.narrow(0, start, count).to(.float32)
      // A row of zeros has no scale; any will do.
      let largest = try numbers.abs().amax([1]).clamped(min: Scalar(DType.float32.smallestNormal * 127))
      let scale = try largest / 127
      try factors.narrow(0, start, count).copy_(scale)
      let whole = try (numbers / scale.unsqueeze(1)).round()
      try whole.clamp_(min: -127, max: 127)
      try elements.narrow(0, start, count).copy_(whole)
    }
    scale = .rows(factors)
    dtype = matrix.dtype
  }

  private static let numbersAtOnce = 1 << 18

  init(elements: Tensor, scale: Scale, dtype: DType) {
    self.elements = elements
    self.scale = scale
    self.dtype = dtype
  }

  /// Whether its elements are not the numbers themselves.
  var isScaled: Bool { if case .none = scale { false } else { true } }

  /// The numbers, [O, I]: products are made in float32 and rounded once.
  public func expanded() throws -> Tensor {
    switch scale {
    case .none: try elements.to(dtype)
    case .matrix(let factor): try (elements.to(.float32) * factor).to(dtype)
    case .rows(let factors):
      try (elements.to(.float32) * factors.reshape([-1] + Array(repeating: 1, count: elements.rank - 1)))
        .to(dtype)
    }
  }

  /// x W^T + b for x [..., I], where that can do without the numbers themselves; else nil.
  ///
  /// Whole numbers up to 127 are exact in bfloat16, so that in int8 the product is the better place for the rows' scales:
  /// nothing of the size of the matrix is made in float32, and no element is rounded a second time.
  func product(_ x: Tensor, _ bias: Tensor?) throws -> Tensor? {
    guard case .rows(let factors) = scale, elements.dtype == .int8 else { return nil }
    let y = try x.linear(elements.to(dtype))
    let scaled = try (y * factors).to(y.dtype)
    return try bias.map { try (scaled + $0).to(y.dtype) } ?? scaled
  }
}

extension Weights {
  /// The matrix of a linear layer in eight bits, where the policy leaves or makes it so; nil where it is to be a plain
  /// tensor.
  func quantisedMatrix(_ name: String, _ entry: TensorEntry) throws -> QuantisedMatrix? {
    guard store.trainedDType(key(name), entry) == nil else { return nil }
    switch store.storage {
    case .expanded: return nil
    case .asStored: return fusedAdapters(of: name).isEmpty ? try storedMatrix(name, entry, dtype: store.dtype) : nil
    case .int8:
      if fusedAdapters(of: name).isEmpty, let matrix = try storedMatrix(name, entry, dtype: store.dtype) { return matrix }
      guard entry.dtype.isFloatingPoint else { return nil }
      defer { store.source.release(key(name)) }
      return try QuantisedMatrix(rounding: tensor(name))
    }
  }

  /// A tensor of eight-bit numbers as the file has it, with its scale: `weight_scale` beside `weight`, or as older
  /// files of ComfyUI have it, `scale_weight`. Nil for other tensors.
  ///
  /// Scales of what goes into a layer, by which other programs multiply in eight bits, are not used.
  ///
  /// - Throws: `WeightError` for a scale that is not one number, or one for each row.
  func storedMatrix(_ name: String, _ entry: TensorEntry, dtype: DType?) throws -> QuantisedMatrix? {
    let scaleName = ["\(name)_scale", "scale_\(name)"].first(where: has)
    guard entry.dtype.isEightBitFloat || scaleName != nil else { return nil }
    for unused in ["input_scale", "scale_input", "comfy_quant"] where name == "weight" && has(unused) {
      store.markUsed(key(unused))
    }
    // Numbers that are not in eight bits have a type of their own.
    let own: DType = entry.dtype.isFloatingPoint && !entry.dtype.isEightBitFloat ? entry.dtype : .bfloat16
    return QuantisedMatrix(
      elements: try store.read(key(name), dtype: nil),
      scale: try scaleName.map { try scale($0, rows: entry.shape.first ?? 1) } ?? .none,
      dtype: dtype ?? own)
  }

  private func scale(_ name: String, rows: Int) throws -> QuantisedMatrix.Scale {
    let entry = try entry(name, shape: nil)
    func fail(_ problem: String) -> WeightError {
      WeightError(file: store.source.file(of: key(name)), key: key(name), problem: problem)
    }
    guard entry.dtype.isFloatingPoint, !entry.dtype.isEightBitFloat else {
      throw fail("is of type \(entry.dtype); only scales in float32, bfloat16 or float16 are supported")
    }
    let shape = entry.shape
    guard shape.allSatisfy({ $0 == 1 }) || shape == [rows] || shape == [rows, 1] else {
      throw fail(
        "has shape \(shape); only one scale for a tensor, or one for each of its \(rows) rows, is supported")
    }
    let scale = try store.read(key(name), dtype: .float32)
    guard try scale.isAllFinite() else { throw fail("is not a finite number") }
    return rows > 1 && scale.count == rows
      ? .rows(try scale.flatten()) : .matrix(try scale.flatten().select(0, 0).item())
  }
}

extension DType {
  var isEightBitFloat: Bool { self == .float8E4M3 || self == .float8E5M2 }
}
