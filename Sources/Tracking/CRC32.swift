import Foundation

/// A cyclic redundancy check of 32 bits, lowest bit first, that begins with ones and ends inverted.
struct CRC32: Sendable {
  /// That of zlib and Ethernet.
  static let ethernet = CRC32(reflectedPolynomial: 0xEDB8_8320)
  /// Castagnoli's, CRC-32C (RFC 3720, appendix B.4).
  static let castagnoli = CRC32(reflectedPolynomial: 0x82F6_3B78)

  /// For each byte what eight steps with the polynomial make of it.
  private let table: [UInt32]

  private init(reflectedPolynomial: UInt32) {
    table = (0..<256).map { byte in
      (0..<8).reduce(UInt32(byte)) { crc, _ in
        crc & 1 == 1 ? crc >> 1 ^ reflectedPolynomial : crc >> 1
      }
    }
  }

  func checksum(_ data: Data) -> UInt32 {
    table.withUnsafeBufferPointer { table in
      data.withUnsafeBytes { bytes in
        ~bytes.reduce(~UInt32(0)) { crc, byte in
          crc >> 8 ^ table[Int(UInt8(truncatingIfNeeded: crc) ^ byte)]
        }
      }
    }
  }
}
