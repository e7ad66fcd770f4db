import Foundation

/// Writes a protocol buffer message, field by field.
///
/// Source of the encoding: protobuf.dev, "Encoding": varints (wire type 0) and length-delimited fields (2).
struct ProtobufMessage {
  private(set) var data = Data()

  mutating func add(_ field: Int, _ value: Int) {
    varint(UInt64(field) << 3)
    varint(UInt64(bitPattern: Int64(value)))
  }

  mutating func add(_ field: Int, _ value: Bool) { add(field, value ? 1 : 0) }

  mutating func add(_ field: Int, _ value: String) { add(field, bytes: Data(value.utf8)) }

  mutating func add(_ field: Int, _ build: (inout ProtobufMessage) throws -> Void) rethrows {
    var message = ProtobufMessage()
    try build(&message)
    add(field, bytes: message.data)
  }

  private mutating func add(_ field: Int, bytes: Data) {
    varint(UInt64(field) << 3 | 2)
    varint(UInt64(bytes.count))
    data.append(bytes)
  }

  private mutating func varint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      data.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    data.append(UInt8(rest))
  }
}
