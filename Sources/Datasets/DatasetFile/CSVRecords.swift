/// Comma-separated values as RFC 4180 has them: fields may stand in double quotes, and then hold commas, line ends,
/// and quotes written twice. Lines end in LF or CRLF; empty ones are passed over.
enum CSVRecords {
  struct Record: Equatable {
    /// The line that the record starts on, from 1.
    let line: Int
    var fields: [String]
  }

  /// - Parameter file: for messages.
  /// - Throws: `PreprocessingError` with the line for a quote that is not closed, or closed in the middle of a field.
  static func parse(_ bytes: [UInt8], file: String) throws -> [Record] {
    var records: [Record] = []
    var (position, line) = (0, 1)
    while position < bytes.count {
      var record = Record(line: line, fields: [])
      repeat {
        record.fields.append(try field(bytes, &position, &line, file))
      } while advance(over: UInt8(ascii: ","), bytes, &position)
      _ = advance(over: UInt8(ascii: "\r"), bytes, &position)
      if advance(over: UInt8(ascii: "\n"), bytes, &position) { line += 1 }
      if record.fields != [""] { records.append(record) }
    }
    return records
  }

  private static func field(
    _ bytes: [UInt8], _ position: inout Int, _ line: inout Int, _ file: String
  ) throws -> String {
    guard advance(over: UInt8(ascii: "\""), bytes, &position) else {
      let start = position
      while position < bytes.count, !isEnd(bytes, position) { position += 1 }
      return String(decoding: bytes[start..<position], as: UTF8.self)
    }
    let firstLine = line
    var content: [UInt8] = []
    while position < bytes.count {
      let byte = bytes[position]
      position += 1
      if byte == UInt8(ascii: "\"") {
        if !advance(over: byte, bytes, &position) {
          guard position == bytes.count || isEnd(bytes, position) else {
            throw PreprocessingError(
              .dataset, file: file, line: line,
              "text follows a closing quote; write a quote within a quoted field twice")
          }
          return String(decoding: content, as: UTF8.self)
        }
      } else if byte == UInt8(ascii: "\n") {
        line += 1
      }
      content.append(byte)
    }
    throw PreprocessingError(.dataset, file: file, line: firstLine, "a quote is opened and never closed")
  }

  private static func isEnd(_ bytes: [UInt8], _ position: Int) -> Bool {
    switch bytes[position] {
    case UInt8(ascii: ","), UInt8(ascii: "\n"): true
    case UInt8(ascii: "\r"): position + 1 == bytes.count || bytes[position + 1] == UInt8(ascii: "\n")
    default: false
    }
  }

  private static func advance(over byte: UInt8, _ bytes: [UInt8], _ position: inout Int) -> Bool {
    guard position < bytes.count, bytes[position] == byte else { return false }
    position += 1
    return true
  }
}
