import Foundation

/// TensorFlow's record files: length (UInt64), its checksum, the bytes, their checksum; all little-endian.
enum TFRecord {
  static func framed(_ data: Data) -> Data {
    var record = Data(capacity: data.count + 16)
    let length = withUnsafeBytes(of: UInt64(data.count).littleEndian) { Data($0) }
    record.append(length)
    record.append(checksum(length))
    record.append(data)
    record.append(checksum(data))
    return record
  }

  /// CRC-32C, rotated and shifted by a constant, so that checksums of data that hold checksums stay good.
  static func maskedCRC(_ data: Data) -> UInt32 {
    let crc = CRC32C.checksum(data)
    return (crc >> 15 | crc << 17) &+ 0xA282_EAD8
  }

  private static func checksum(_ data: Data) -> Data {
    withUnsafeBytes(of: maskedCRC(data).littleEndian) { Data($0) }
  }
}

/// The cyclic redundancy check of Castagnoli's polynomial (RFC 3720, appendix B.4).
enum CRC32C {
  /// For each byte what eight steps with the reflected polynomial make of it.
  private static let table: [UInt32] = (0..<256).map { byte in
    (0..<8).reduce(UInt32(byte)) { crc, _ in crc & 1 == 1 ? crc >> 1 ^ 0x82F6_3B78 : crc >> 1 }
  }

  static func checksum(_ data: Data) -> UInt32 {
    table.withUnsafeBufferPointer { table in
      data.withUnsafeBytes { bytes in
        ~bytes.reduce(~UInt32(0)) { crc, byte in crc >> 8 ^ table[Int(UInt8(truncatingIfNeeded: crc) ^ byte)]
        }
      }
    }
  }
}
