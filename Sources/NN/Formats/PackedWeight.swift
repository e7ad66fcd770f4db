// O outputs, I inputs of a linear layer.

import Torch

/// A weight with 4 or 2 bits per element, which is dequantized each time its layer runs.
struct PackedWeight: StoredWeight {
  /// The tensors' meaning, as in `PackedMatrix.Coding`.
  enum Coding: Sendable {
    case planar(bits: Int, shifts: WeightSlot)
    case pairs(values: WeightSlot)
  }

  private let codes: WeightSlot
  private let scales: WeightSlot
  private let coding: Coding
  private let tensorScale: WeightSlot?
  /// [O, I]
  let shape: [Int]
  private let group: Int
  let dtype: DType

  /// - Parameters:
  ///   - shape: [O, I]
  ///   - group: The number of elements that share a scale.
  init(
    codes: WeightSlot, scales: WeightSlot, coding: Coding, tensorScale: WeightSlot? = nil,
    shape: [Int], group: Int, dtype: DType
  ) {
    self.codes = codes
    self.scales = scales
    self.coding = coding
    self.tensorScale = tensorScale
    self.shape = shape
    self.group = group
    self.dtype = dtype
  }

  var slots: [WeightSlot] {
    let own =
      switch coding {
      case .planar(_, let shifts): shifts
      case .pairs(let values): values
      }
    return [codes, scales, own] + [tensorScale].compactMap { $0 }
  }

  /// The tensors that are in the slots now.
  var matrix: PackedMatrix {
    let coding: PackedMatrix.Coding =
      switch coding {
      case .planar(let bits, let shifts): .planar(bits: bits, shifts: shifts.tensor)
      case .pairs(let values): .pairs(values: values.tensor)
      }
    return PackedMatrix(
      codes: codes.tensor, scales: scales.tensor, coding: coding,
      tensorScale: tensorScale?.tensor, rows: shape[0], columns: shape[1], group: group,
      dtype: dtype)
  }

  func dequantized() throws -> Tensor { try matrix.dequantized() }

  func matmul(_ x: Tensor, _ bias: Tensor?, adding term: LowRankTerm?) throws -> Tensor {
    let y = try x.linear(packed: matrix, bias)
    guard let term else { return y }
    return try (y + term(x)).to(y.dtype)
  }
}
