import Foundation
import Support

/// The content of a record of an event file: tensorflow.Event. Field numbers are those of
/// TensorBoard's `event.proto`, `summary.proto` and `tensor.proto`.
struct TensorBoardEvent {
  enum Content {
    /// The first event of every file.
    case version(writer: String)
    /// The run starts or resumes, which invalidates existing events of this step and later ones.
    case start
    case summary([Value])
  }

  enum Value {
    case scalar(tag: String, Float)
    /// PNG or JPEG in RGB.
    case image(tag: String, Data, width: Int, height: Int)
    /// 16-bit WAV.
    case audio(tag: String, Data, sampleRate: Int, channels: Int, samples: Int)
    /// Shown as Markdown.
    case text(tag: String, String)
  }

  /// Seconds since 1970.
  let wallTime: Double
  let step: Int
  let content: Content

  var encoded: Data {
    var event = ProtobufMessage()
    event.double(1, wallTime)
    if step != 0 { event.integer(2, step) }
    switch content {
    case .version(let writer):
      event.string(3, "brain.Event:2")
      event.message(10) { $0.string(1, writer) }
    case .start:
      event.message(7) { $0.integer(1, 1) }  // SessionLog.START
    case .summary(let values):
      event.message(5) { summary in
        for value in values { summary.message(1) { value.encode(&$0) } }
      }
    }
    return event.data
  }
}

extension TensorBoardEvent.Value {
  fileprivate func encode(_ value: inout ProtobufMessage) {
    switch self {
    case .scalar(let tag, let number):
      value.string(1, tag)
      value.float(2, number)
    case .image(let tag, let data, let width, let height):
      value.string(1, tag)
      value.message(4) { image in
        image.integer(1, height)
        image.integer(2, width)
        image.integer(3, 3)  // RGB
        image.bytes(4, data)
      }
    case .audio(let tag, let data, let sampleRate, let channels, let samples):
      value.string(1, tag)
      value.message(6) { audio in
        audio.float(1, Float(sampleRate))
        audio.integer(2, channels)
        audio.integer(3, samples)
        audio.bytes(4, data)
        audio.string(5, "audio/wav")
      }
    case .text(let tag, let text):
      value.string(1, tag)
      // A tensor with one string, which the text plugin shows.
      value.message(8) { tensor in
        tensor.integer(1, 7)  // DT_STRING
        tensor.message(2) { $0.message(2) { $0.integer(1, 1) } }
        tensor.string(8, text)
      }
      value.message(9) { $0.message(1) { $0.string(1, "text") } }
    }
  }
}

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

  /// CRC-32C, rotated and shifted by a constant, because the CRC of data that contains CRCs is
  /// weak.
  static func maskedCRC(_ data: Data) -> UInt32 {
    let crc = CRC32.castagnoli.checksum(data)
    return (crc >> 15 | crc << 17) &+ 0xA282_EAD8
  }

  private static func checksum(_ data: Data) -> Data {
    withUnsafeBytes(of: maskedCRC(data).littleEndian) { Data($0) }
  }
}
