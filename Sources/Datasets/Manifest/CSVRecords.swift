import Support

/// Comma-separated values by RFC 4180: fields may be in double quotes, and then contain commas,
/// line ends, and doubled quotes. Lines end in LF or CRLF; empty lines are skipped.
struct CSVRecords {
  struct Record {
    /// The line that the record starts on, from 1.
    let line: Int
    var fields: [String] = []
    /// The ranges of the fields in the bytes, including quotes.
    var places: [Range<Int>] = []
  }

  private(set) var records: [Record] = []
  /// The records that can't be read. Reading continues at the next line.
  private(set) var problems: [Issue] = []

  private let bytes: [UInt8]
  private var position = 0
  private var line = 1

  init(_ bytes: [UInt8]) {
    self.bytes = bytes
    while position < bytes.count { readRecord() }
  }

  private mutating func readRecord() {
    let start = (position: position, line: line)
    var record = Record(line: line)
    repeat {
      let first = position
      switch field() {
      case .text(let text): record.fields.append(text)
      case .unclosed:
        problems.append(
          Issue([.line(start.line)], "a quote is not closed", suggestion: "Close it."))
        return skipLine(from: start)
      case .followed:
        problems.append(
          Issue(
            [.line(start.line)], "text follows a closing quote",
            suggestion: "Double quotes inside a quoted field."))
        // An unclosed quote would otherwise extend to the next quote in a later row and swallow the
        // rows between.
        return skipLine(from: line > start.line ? start : (position, line))
      }
      record.places.append(first..<position)
    } while advance(over: UInt8(ascii: ","))
    _ = advance(over: UInt8(ascii: "\r"))
    if advance(over: UInt8(ascii: "\n")) { line += 1 }
    if record.fields != [""] { records.append(record) }
  }

  private mutating func skipLine(from place: (position: Int, line: Int)) {
    (position, line) = place
    while position < bytes.count, bytes[position] != UInt8(ascii: "\n") { position += 1 }
    if advance(over: UInt8(ascii: "\n")) { line += 1 }
  }

  private enum Field {
    case text(String)
    /// A quote that is never closed, which would swallow other rows.
    case unclosed
    /// A closing quote that is followed by text.
    case followed
  }

  private mutating func field() -> Field {
    guard advance(over: UInt8(ascii: "\"")) else {
      let start = position
      while position < bytes.count, !isEnd(position) { position += 1 }
      return .text(String(decoding: bytes[start..<position], as: UTF8.self))
    }
    var content: [UInt8] = []
    while position < bytes.count {
      let byte = bytes[position]
      position += 1
      if byte == UInt8(ascii: "\"") {
        if !advance(over: byte) {
          guard position == bytes.count || isEnd(position) else { return .followed }
          return .text(String(decoding: content, as: UTF8.self))
        }
      } else if byte == UInt8(ascii: "\n") {
        line += 1
      }
      content.append(byte)
    }
    return .unclosed
  }

  private func isEnd(_ position: Int) -> Bool {
    switch bytes[position] {
    case UInt8(ascii: ","), UInt8(ascii: "\n"): true
    case UInt8(ascii: "\r"):
      position + 1 == bytes.count || bytes[position + 1] == UInt8(ascii: "\n")
    default: false
    }
  }

  private mutating func advance(over byte: UInt8) -> Bool {
    guard position < bytes.count, bytes[position] == byte else { return false }
    position += 1
    return true
  }
}
