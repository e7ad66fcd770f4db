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
  private(set) var problems: [RowProblem] = []

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
    do {
      repeat {
        let first = position
        record.fields.append(try field())
        record.places.append(first..<position)
      } while advance(over: UInt8(ascii: ","))
      _ = advance(over: UInt8(ascii: "\r"))
      if advance(over: UInt8(ascii: "\n")) { line += 1 }
      if record.fields != [""] { records.append(record) }
    } catch {
      problems.append(RowProblem(line: start.line, error.problem))
      // A quote that is never closed, or that the next quote further down closes, would swallow
      // other rows.
      if error == .unclosed || line > start.line { (position, line) = start }
      while position < bytes.count, bytes[position] != UInt8(ascii: "\n") { position += 1 }
      if advance(over: UInt8(ascii: "\n")) { line += 1 }
    }
  }

  private enum QuoteError: Error {
    case unclosed, followed

    var problem: String {
      switch self {
      case .unclosed: "a quote is not closed. Close it"
      case .followed: "text follows a closing quote. Double quotes inside a quoted field"
      }
    }
  }

  private mutating func field() throws(QuoteError) -> String {
    guard advance(over: UInt8(ascii: "\"")) else {
      let start = position
      while position < bytes.count, !isEnd(position) { position += 1 }
      return String(decoding: bytes[start..<position], as: UTF8.self)
    }
    var content: [UInt8] = []
    while position < bytes.count {
      let byte = bytes[position]
      position += 1
      if byte == UInt8(ascii: "\"") {
        if !advance(over: byte) {
          guard position == bytes.count || isEnd(position) else { throw .followed }
          return String(decoding: content, as: UTF8.self)
        }
      } else if byte == UInt8(ascii: "\n") {
        line += 1
      }
      content.append(byte)
    }
    throw .unclosed
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
