/// The alphabet of byte-level tokenizers, which spells every byte as one printable scalar, so that
/// any text consists of known symbols (GPT-2's `bytes_to_unicode`).
enum ByteAlphabet {
  /// The scalar of each byte: printable Latin-1 characters stand for themselves, the other bytes
  /// are numbered from U+0100.
  static let scalars: [Unicode.Scalar] = {
    var next: UInt32 = 0x100
    return (UInt8.min...UInt8.max).map { byte in
      switch byte {
      case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: return Unicode.Scalar(byte)
      default:
        defer { next += 1 }
        return Unicode.Scalar(next) ?? "\u{FFFD}"  // always a scalar: far below the surrogates
      }
    }
  }()

  private static let spellings: [[UInt8]] = scalars.map { Array(String($0).utf8) }

  private static let bytes = Dictionary(
    uniqueKeysWithValues: zip(scalars, UInt8.min...UInt8.max))

  /// Spells bytes in the alphabet, as UTF-8.
  static func spell(_ text: ArraySlice<UInt8>) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(text.count * 2)
    for byte in text { result += spellings[Int(byte)] }
    return result
  }

  /// The bytes that a token spells; nil if a scalar is not in the alphabet, as in added tokens.
  static func bytes(of token: [UInt8]) -> [UInt8]? {
    var result: [UInt8] = []
    result.reserveCapacity(token.count)
    for scalar in String(decoding: token, as: UTF8.self).unicodeScalars {
      guard let byte = bytes[scalar] else { return nil }
      result.append(byte)
    }
    return result
  }
}
