/// Comma-separated values as RFC 4180 has them: fields may stand in double quotes, and then hold
/// commas, line ends, and quotes written twice. Lines end in LF or CRLF; empty ones are passed
/// over.
struct CSVRecords {
  struct Record {
    /// The line that the record starts on, from 1.
    let line: Int
    var fields: [String] = []
    /// Where the fields stand among the bytes, quotes and all.
    var places: [Range<Int>] = []
  }

  private(set) var records: [Record] = []
  /// Records that can't be read. Reading goes on at the next line.
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
      // A quote that is never closed, or closed by the next one further down, would take other rows
      // along.
      if error == .unclosed || line > start.line { (position, line) = start }
      while position < bytes.count, bytes[position] != UInt8(ascii: "\n") { position += 1 }
      if advance(over: UInt8(ascii: "\n")) { line += 1 }
    }
  }

  private enum QuoteError: Error {
    case unclosed, followed

    var problem: String {
      switch self {
      case .unclosed: "a quote is opened and never closed; close it"
      case .followed: "text follows a closing quote; write a quote within a quoted field twice"
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
