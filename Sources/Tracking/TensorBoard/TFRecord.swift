import Foundation
import Support

/// TensorFlow's record files: length (UInt64), its checksum, the bytes, their checksum; all
/// little-endian.
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

  /// CRC-32C, rotated and shifted by a constant, so that checksums of data that hold checksums stay
  /// good.
  static func maskedCRC(_ data: Data) -> UInt32 {
    let crc = CRC32.castagnoli.checksum(data)
    return (crc >> 15 | crc << 17) &+ 0xA282_EAD8
  }

  private static func checksum(_ data: Data) -> Data {
    withUnsafeBytes(of: maskedCRC(data).littleEndian) { Data($0) }
  }
}
