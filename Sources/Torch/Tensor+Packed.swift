import CTorch

/// A matrix with 4 or 2 bits per element, whose elements, in order, form groups with a scale each.
public struct PackedMatrix: Sendable {
  /// The order of the codes, and the meaning of a code.
  public enum Coding: Sendable {
    /// optimum-quanto's. Byte [r, i] of `codes`, [R, group], holds element i of the groups r, R + r,
    /// … from its lowest bits up. An element is code * scale - shift, each rounded to the dtype of
    /// the scales.
    case planar(bits: Int, shifts: Tensor)
    /// Two codes of 4 bits per byte, the first element in the upper bits. An element is the value of
    /// its code times the scale, in float32. The last group may be shorter.
    ///
    /// - Parameter values: float32 [256, 2], the two values of each byte.
    case pairs(values: Tensor)
  }

  /// uint8
  public let codes: Tensor
  /// One for each group.
  public let scales: Tensor
  public let coding: Coding
  /// float32 [1], multiplies all scales.
  public let tensorScale: Tensor?
  public let rows: Int
  public let columns: Int
  /// The number of elements in a group.
  public let group: Int
  /// The dtype of the dequantized matrix.
  public let dtype: DType

  public init(
    codes: Tensor, scales: Tensor, coding: Coding, tensorScale: Tensor? = nil, rows: Int,
    columns: Int, group: Int, dtype: DType
  ) {
    self.codes = codes
    self.scales = scales
    self.coding = coding
    self.tensorScale = tensorScale
    self.rows = rows
    self.columns = columns
    self.group = group
    self.dtype = dtype
  }

  /// [rows, columns]
  public func dequantized() throws -> Tensor {
    try produce { ct_dequantize_packed(c, $0) }
  }

  var c: ct_packed_matrix {
    let (bits, shifts, values): (Int, Tensor?, Tensor?) =
      switch coding {
      case .planar(let bits, let shifts): (bits, shifts, nil)
      case .pairs(let values): (4, nil, values)
      }
    return ct_packed_matrix(
      codes: codes.handle, scales: scales.handle, shifts: shifts?.handle, values: values?.handle,
      tensor_scale: tensorScale?.handle, rows: Int64(rows), columns: Int64(columns),
      group: Int64(group), bits: Int32(bits), is_planar: values == nil, dtype: dtype.c)
  }
}

extension Tensor {
  /// x W^T + bias. The backward pass dequantizes W again instead of keeping it.
  ///
  /// - Parameter matrix: W, [outputs, inputs]
  public func linear(packed matrix: PackedMatrix, _ bias: Tensor?) throws -> Tensor {
    try produce { ct_linear_packed(handle, matrix.c, bias?.handle, $0) }
  }
}
