// The tokenizer works on valid UTF-8 bytes; these functions read scalars from them.

/// The number of bytes of the scalar that starts with this byte.
func scalarLength(leading byte: UInt8) -> Int {
  switch byte {
  case ..<0xC0: 1
  case ..<0xE0: 2
  case ..<0xF0: 3
  default: 4
  }
}

/// The first scalar of nonempty UTF-8 bytes.
func scalar(_ bytes: ArraySlice<UInt8>) -> Unicode.Scalar {
  var iterator = bytes.makeIterator()
  var decoder = UTF8()
  guard case .scalarValue(let scalar) = decoder.decode(&iterator) else { return "\u{FFFD}" }
  return scalar
}

/// The last scalar of UTF-8 bytes, and its start; nil if the bytes are empty.
func lastScalar(_ bytes: ArraySlice<UInt8>) -> (scalar: Unicode.Scalar, start: Int)? {
  guard var start = bytes.indices.last else { return nil }
  while start > bytes.startIndex, bytes[start] & 0xC0 == 0x80 { start -= 1 }
  return (scalar(bytes[start...]), start)
}

extension Unicode.Scalar {
  /// Whether this is a word character of Unicode's regular expressions (UTS #18, annex C): a
  /// letter, mark, decimal digit, connector or joiner.
  var isWord: Bool {
    if properties.isAlphabetic || properties.isJoinControl { return true }
    return switch properties.generalCategory {
    case .nonspacingMark, .spacingMark, .enclosingMark, .decimalNumber, .connectorPunctuation: true
    default: false
    }
  }
}
