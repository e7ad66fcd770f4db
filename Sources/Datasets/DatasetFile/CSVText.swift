import Foundation
import Media

/// The text of comma-separated values, for changing fields in place.
struct CSVText: Sendable {
  private struct Record: Sendable {
    /// As they stand in the file, quotes and all.
    var fields: [[UInt8]]
    /// The line end, if there is one, and empty lines that follow.
    var end: [UInt8]
  }

  private static let quote = UInt8(ascii: "\"")
  private static let comma = UInt8(ascii: ",")

  /// A byte order mark and empty lines.
  private var start: [UInt8]
  private var records: [Record] = []
  private var names: [String]

  var rowCount: Int { records.count - 1 }

  var bytes: [UInt8] {
    start + records.flatMap { $0.fields.joined(separator: [Self.comma]) + $0.end }
  }

  /// - Throws: `PreprocessingError` with the line, as `CSVRecords` finds it, and for a file without a header.
  init(_ bytes: [UInt8], file: String) throws {
    let markLength = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
    let read = CSVRecords(Array(bytes[markLength...]))
    if let problem = read.problems.first {
      throw PreprocessingError(.dataset, file: file, line: problem.line, problem.problem)
    }
    let parsed = read.records
    guard let header = parsed.first else {
      throw PreprocessingError(.dataset, file: file, "has no header line")
    }
    names = header.fields.map { $0.trimmingBlanks }
    var position = markLength + Self.lineEnds(bytes[markLength...])
    start = Array(bytes[..<position])
    while position < bytes.count {
      var record = Record(fields: [], end: [])
      repeat {
        if !record.fields.isEmpty { position += 1 }
        let end = Self.fieldEnd(bytes, from: position)
        record.fields.append(Array(bytes[position..<end]))
        position = end
      } while position < bytes.count && bytes[position] == Self.comma
      let ends = Self.lineEnds(bytes[position...])
      record.end = Array(bytes[position..<(position + ends)])
      position += ends
      if record.fields == [[]] || record.fields == [[Self.quote, Self.quote]] {
        // A line that holds nothing is no record.
        let text = record.fields[0] + record.end
        if records.isEmpty { start += text } else { records[records.count - 1].end += text }
      } else {
        records.append(record)
      }
    }
    guard records.count == parsed.count else {
      throw PreprocessingError(.dataset, file: file, "its rows can't be told apart; save it anew as CSV")
    }
  }

  mutating func set(_ name: String, row: Int, to value: String) {
    let column = names.firstIndex(of: name) ?? names.count
    if column == names.count {
      names.append(name)
      records[0].fields.append(Self.written(name))
      for index in records.indices.dropFirst() { pad(index, to: names.count) }
    }
    pad(row + 1, to: column + 1)
    records[row + 1].fields[column] = Self.written(value)
  }

  mutating func remove(_ name: String, row: Int) -> Bool {
    guard let column = names.firstIndex(of: name), column < records[row + 1].fields.count,
      !records[row + 1].fields[column].isEmpty, records[row + 1].fields.count > 1
    else { return false }
    records[row + 1].fields[column] = []
    return true
  }

  private mutating func pad(_ index: Int, to count: Int) {
    while records[index].fields.count < count { records[index].fields.append([]) }
  }

  private static func fieldEnd(_ bytes: [UInt8], from start: Int) -> Int {
    var position = start
    if position < bytes.count, bytes[position] == quote {
      position += 1
      // A quote written twice closes and opens again.
      while position < bytes.count {
        let closes = bytes[position] == quote
        position += 1
        if closes {
          guard position < bytes.count, bytes[position] == quote else { break }
          position += 1
        }
      }
    }
    while position < bytes.count, bytes[position] != comma {
      if bytes[position] == UInt8(ascii: "\n") { return position }
      if bytes[position] == UInt8(ascii: "\r"), lineEnd(bytes[position...]) > 0 { return position }
      position += 1
    }
    return position
  }

  /// Length of the line ends that follow each other here.
  private static func lineEnds(_ bytes: ArraySlice<UInt8>) -> Int {
    var length = 0
    while case let more = lineEnd(bytes.dropFirst(length)), more > 0 { length += more }
    return length
  }

  private static func lineEnd(_ bytes: ArraySlice<UInt8>) -> Int {
    guard let first = bytes.first else { return 0 }
    if first == UInt8(ascii: "\n") { return 1 }
    guard first == UInt8(ascii: "\r") else { return 0 }
    let second = bytes.dropFirst().first
    return second == UInt8(ascii: "\n") ? 2 : second == nil ? 1 : 0
  }

  private static func written(_ text: String) -> [UInt8] { Array(TextFormats.csvField(text).utf8) }
}

extension String {
  fileprivate var trimmingBlanks: String { trimmingCharacters(in: .whitespaces) }
}
