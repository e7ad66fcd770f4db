import CTorch

/// The type of a tensor's elements.
public enum DType: String, Sendable, CaseIterable, CustomStringConvertible {
  case float32, float64, float16, bfloat16
  case float8E4M3 = "float8_e4m3fn"
  case float8E5M2 = "float8_e5m2"
  case int8, int16, int32, int64, uint8, bool

  public var description: String { rawValue }

  /// The number of bytes per element.
  public var size: Int {
    switch self {
    case .float64, .int64: 8
    case .float32, .int32: 4
    case .float16, .bfloat16, .int16: 2
    case .float8E4M3, .float8E5M2, .int8, .uint8, .bool: 1
    }
  }

  public var isFloatingPoint: Bool {
    switch self {
    case .float32, .float64, .float16, .bfloat16, .float8E4M3, .float8E5M2: true
    case .int8, .int16, .int32, .int64, .uint8, .bool: false
    }
  }

  var c: ct_dtype {
    switch self {
    case .float32: CT_FLOAT32
    case .float64: CT_FLOAT64
    case .float16: CT_FLOAT16
    case .bfloat16: CT_BFLOAT16
    case .float8E4M3: CT_FLOAT8_E4M3FN
    case .float8E5M2: CT_FLOAT8_E5M2
    case .int8: CT_INT8
    case .int16: CT_INT16
    case .int32: CT_INT32
    case .int64: CT_INT64
    case .uint8: CT_UINT8
    case .bool: CT_BOOL
    }
  }

  init?(_ c: ct_dtype) {
    guard let dtype = DType.allCases.first(where: { $0.c == c }) else { return nil }
    self = dtype
  }
}

extension DType {
  /// The largest finite value of a floating-point type.
  public var largestFinite: Double {
    switch self {
    case .float64: .greatestFiniteMagnitude
    case .float32: Double(Float.greatestFiniteMagnitude)
    case .bfloat16: 3.3895313892515355e38
    case .float16: 65504
    case .float8E4M3: 448
    case .float8E5M2: 57344
    case .int8, .int16, .int32, .int64, .uint8, .bool:
      preconditionFailure("\(self) is not a floating-point type")
    }
  }

  /// The smallest positive normal value of a floating-point type.
  public var smallestNormal: Double {
    switch self {
    case .float64: .leastNormalMagnitude
    case .float32, .bfloat16: Double(Float.leastNormalMagnitude)
    case .float16: 0x1p-14
    case .float8E4M3: 0x1p-6
    case .float8E5M2: 0x1p-14
    case .int8, .int16, .int32, .int64, .uint8, .bool:
      preconditionFailure("\(self) is not a floating-point type")
    }
  }
}
