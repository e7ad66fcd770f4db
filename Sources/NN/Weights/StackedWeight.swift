// E matrices, O outputs, I inputs, P pairs of a row and a matrix.

import Torch

/// Equal matrices of linear layers in one tensor, from which each row chooses its own.
///
/// The choice is made on the device: the host neither knows it nor waits for it.
public struct StackedWeight: Sendable {
  private enum Storage: Sendable {
    /// [E, O, I]
    case dense(Tensor)
    /// [E, O, I], int8; [E, O, 1], float32; and the dtype of the values.
    case scaled(elements: Tensor, scales: Tensor, dtype: DType)
  }

  private let storage: Storage

  /// Loads matrices of one shape, one after the other.
  ///
  /// - Returns: Nil if the matrices are in a format that can't be stacked.
  /// - Throws: The errors of `DeferredWeight.load`.
  public init?(_ weights: [DeferredWeight]) throws {
    guard let first = try weights.first?.load() else { return nil }
    let shape = [weights.count] + first.shape
    func fill(_ target: Tensor, _ index: Int, _ source: Tensor) throws {
      try target.select(0, index).copy_(source)
    }
    switch first {
    case let first as DenseWeight:
      let device = try first.dequantized().device
      let values = try Tensor.empty(shape, dtype: first.dtype, device: device)
      for (index, weight) in weights.enumerated() {
        guard let loaded = try weight.load() as? DenseWeight else { return nil }
        try fill(values, index, loaded.dequantized())
        weight.release()
      }
      storage = .dense(values)
    case let first as ScaledWeight where first.isInt8ByRow:
      let device = first.elements.device
      let elements = try Tensor.empty(shape, dtype: .int8, device: device)
      let scales = try Tensor.empty([shape[0], shape[1], 1], device: device)
      for (index, weight) in weights.enumerated() {
        guard let loaded = try weight.load() as? ScaledWeight, loaded.isInt8ByRow,
          let scale = loaded.scale
        else { return nil }
        try fill(elements, index, loaded.elements)
        try fill(scales, index, scale)
        weight.release()
      }
      storage = .scaled(elements: elements, scales: scales, dtype: first.dtype)
    default: return nil
    }
  }

  /// One of the matrices, a view of the stack.
  public func weight(_ index: Int) throws -> any StoredWeight {
    switch storage {
    case .dense(let values):
      DenseWeight(WeightSlot(key: "\(index)", tensor: try values.select(0, index)))
    case .scaled(let elements, let scales, let dtype):
      ScaledWeight(
        elements: WeightSlot(key: "\(index)", tensor: try elements.select(0, index)),
        scale: WeightSlot(key: "\(index)_scale", tensor: try scales.select(0, index)), dtype: dtype,
        scalesProduct: true)
    }
  }

  /// Multiplies each row by its own matrix. The matrices are copied, so that this is for few rows.
  ///
  /// - Parameters:
  ///   - x: [P, I]
  ///   - choices: [P], the matrix of each row.
  /// - Returns: [P, O]
  public func matmul(_ x: Tensor, choices: Tensor) throws -> Tensor {
    let columns = try x.unsqueeze(-1)
    switch storage {
    case .dense(let values):
      return try values.indexSelect(0, choices).matmul(columns).squeeze(-1)
    case .scaled(let elements, let scales, let dtype):
      let product = try elements.indexSelect(0, choices).to(dtype).matmul(columns)
      return try (product * scales.indexSelect(0, choices)).to(dtype).squeeze(-1)
    }
  }
}

extension ScaledWeight {
  /// Whether the weight is int8 with one scale for each row, and nothing else.
  fileprivate var isInt8ByRow: Bool {
    elements.dtype == .int8 && scale?.rank == 2 && scale?.size(0) == shape[0] && !isRotated
  }
}
