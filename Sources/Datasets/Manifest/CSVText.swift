import Foundation
import Media
import Support

/// The text of a CSV file, for changing single fields.
struct CSVText: Sendable {
  private struct Record: Sendable {
    /// The fields as in the file, including quotes.
    var fields: [[UInt8]]
    /// The line end, if there is one, and empty lines after it.
    var end: [UInt8]
  }

  /// A byte order mark and empty lines at the start of the file.
  private var start: [UInt8]
  private var records: [Record] = []
  private var names: [String]

  var rowCount: Int { records.count - 1 }

  var bytes: [UInt8] {
    start + records.flatMap { $0.fields.joined(separator: [UInt8(ascii: ",")]) + $0.end }
  }

  /// - Throws: `Issue` for a record that can't be read, and for a file without a
  ///   header.
  init(_ bytes: [UInt8], file: String) throws {
    let mark = bytes.prefix(bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0)
    let text = Array(bytes.dropFirst(mark.count))
    let read = CSVRecords(text)
    if let problem = read.problems.first {
      throw problem.within(.file(file))
    }
    guard let header = read.records.first else {
      throw Issue([.file(file)], "has no header line")
    }
    names = header.fields.map { $0.trimmingBlanks }
    // Text between records belongs to the record before it.
    let starts = read.records.map { $0.places[0].lowerBound } + [text.count]
    start = Array(mark + text[..<starts[0]])
    records = read.records.enumerated().map { index, record in
      Record(
        fields: record.places.map { Array(text[$0]) },
        end: Array(text[record.places[record.places.count - 1].upperBound..<starts[index + 1]]))
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

  mutating func insert(_ values: [(column: String, value: String)], at row: Int) {
    let lineEnd = records[0].end.starts(with: "\r\n".utf8) ? Array("\r\n".utf8) : Array("\n".utf8)
    let isLast = row == rowCount
    if isLast, records[row].end.isEmpty {
      records[row].end = lineEnd
      records.append(Record(fields: [[]], end: []))
    } else {
      records.insert(Record(fields: [[]], end: lineEnd), at: row + 1)
    }
    pad(row + 1, to: names.count)
    for (column, value) in values { set(column, row: row, to: value) }
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

  private static func written(_ text: String) -> [UInt8] { Array(TextFormats.csvField(text).utf8) }
}

extension String {
  fileprivate var trimmingBlanks: String { trimmingCharacters(in: .whitespaces) }
}
