import Torch

/// The result of scanning the elements of a tensor, by their bytes.
struct NumberScan: Equatable {
  /// Whether any element is NaN.
  var hasNaN = false
  var hasInfinity = false
  var isAllZero = true

  /// Scans the elements. Integers are always finite.
  init(_ bytes: UnsafeRawBufferPointer, _ dtype: DType) {
    switch dtype {
    case .bfloat16: scan(Self.largest(bytes, mask: UInt16(0x7FFF)), infinity: 0x7F80)
    case .float16: scan(Self.largest(bytes, mask: UInt16(0x7FFF)), infinity: 0x7C00)
    case .float32: scan(Self.largest(bytes, mask: UInt32(0x7FFF_FFFF)), infinity: 0x7F80_0000)
    case .float64:
      scan(
        Self.largest(bytes, mask: UInt64(0x7FFF_FFFF_FFFF_FFFF)), infinity: 0x7FF0_0000_0000_0000)
    case .float8E4M3:
      scan(Self.largest(bytes, mask: UInt8(0x7F)), infinity: 0x7F, infinityIsNaN: true)
    case .float8E5M2: scan(Self.largest(bytes, mask: UInt8(0x7F)), infinity: 0x7C)
    case .int8, .int16, .int32, .int64, .uint8, .bool: isAllZero = !bytes.contains { $0 != 0 }
    }
  }

  private mutating func scan<Word: FixedWidthInteger>(
    _ largest: Word, infinity: Word, infinityIsNaN: Bool = false
  ) {
    // Without their signs, the bits of floating-point numbers are ordered like integers: infinity
    // is above all finite values, and NaN above infinity.
    hasNaN = largest > infinity || (infinityIsNaN && largest == infinity)
    hasInfinity = largest == infinity && !infinityIsNaN
    isAllZero = largest == 0
  }

  private static func largest<Word: FixedWidthInteger & BitwiseCopyable>(
    _ bytes: UnsafeRawBufferPointer, mask: Word
  ) -> Word {
    var largest: Word = 0
    let size = MemoryLayout<Word>.size
    for index in 0..<bytes.count / size {
      largest = max(
        largest, bytes.loadUnaligned(fromByteOffset: index * size, as: Word.self) & mask)
    }
    return largest
  }
}
