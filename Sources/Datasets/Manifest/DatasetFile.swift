import Foundation
import Media
import NN
import Support

/// A row of a dataset: the values of its columns.
package struct DatasetRow: Equatable, Sendable {
  /// The line on which the row starts, from 1; nil for files of a folder.
  package let line: Int?
  package let values: [String: JSON]
}

/// The rows of a dataset: JSON (a list of objects), JSONL (one object per line), CSV (a header and
/// rows), or a folder of media with their captions beside them.
///
/// Rows that can't be read are reported, and the rest are used.
package struct DatasetFile: Sendable {
  package let path: String
  /// The columns of all rows, in alphabetical order.
  package let columns: [String]
  package let rows: [DatasetRow]
  package let problems: [Issue]
  /// The files of a folder that are skipped; empty for a dataset file.
  let skipped: SkippedFiles
  /// Likely captions, as in `MediaFolder`; empty for a dataset file.
  let nearCaptions: [String: String]
  /// The folder that media paths are relative to.
  package let root: String
  package let isFolder: Bool

  /// - Parameter bytes: The content of the file, if it has been read already.
  /// - Throws: `Issue` for a file that is missing, is not a dataset, or has no rows.
  package init(path: String, bytes: [UInt8]? = nil) throws {
    self.path = path
    let content: Content
    isFolder = try bytes == nil && Self.isFolder(path)
    if isFolder {
      root = absolutePath(path)
      let folder = try MediaFolder(path: path)
      let marks = try ReviewMark.values(ofFolder: path)
      content = Content(
        rows: folder.rows.map { $0.marked(by: marks) }, problems: folder.problems)
      skipped = folder.skipped
      nearCaptions = folder.nearCaptions
    } else {
      skipped = SkippedFiles()
      nearCaptions = [:]
      root = absolutePath((path as NSString).deletingLastPathComponent)
      switch (path as NSString).pathExtension.lowercased() {
      case "json": content = try Self.json(Self.text(bytes, path), path)
      case "jsonl": content = Self.jsonLines(try Self.text(bytes, path))
      case "csv": content = try Self.csv(Self.text(bytes, path), path)
      default:
        throw Issue(
          [.file(path)],
          "is not a dataset (expected a .json, .jsonl or .csv file, or a folder)")
      }
    }
    guard !content.rows.isEmpty else {
      if let first = content.problems.first {
        throw Issue([.file(path)], "no row can be read: \(first)")
      }
      throw Issue(
        [.file(path)], "has no rows",
        suggestion: "Write one for each clip, with its media file and its caption.")
    }
    rows = content.rows
    problems = content.problems
    columns = Set(rows.flatMap(\.values.keys)).union(content.header).sorted()
  }

  fileprivate struct Content {
    var rows: [DatasetRow] = []
    var problems: [Issue] = []
    var header: [String] = []
  }

  private static func isFolder(_ path: String) throws -> Bool {
    guard FileManager.default.fileExists(atPath: path) else {
      throw Issue([.file(path)], "does not exist", suggestion: MissingFile.hint(path))
    }
    return Support.isFolder(path)
  }

  /// Returns the content of the file without its byte order mark.
  private static func text(_ given: [UInt8]?, _ path: String) throws -> [UInt8] {
    var bytes: [UInt8]
    do {
      bytes = try given ?? Array(Data(contentsOf: URL(fileURLWithPath: path)))
    } catch {
      throw Issue([.file(path)], "can't be read: \(reason(of: error))")
    }
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { bytes.removeFirst(3) }
    guard String(validating: bytes, as: UTF8.self) != nil else {
      throw Issue([.file(path)], "is not UTF-8", suggestion: "Save it in that encoding.")
    }
    return bytes
  }

  // MARK: JSON

  private static func json(_ bytes: [UInt8], _ path: String) throws -> Content {
    guard let list = JSONElements(bytes) else {
      throw Issue([.file(path)], "must be a list of objects, [{…}, {…}]")
    }
    var content = Content(problems: list.problems)
    for element in list.elements { content.add(element.text, line: element.line) }
    content.problems.sort { ($0.line ?? 0) < ($1.line ?? 0) }
    return content
  }

  private static func jsonLines(_ bytes: [UInt8]) -> Content {
    var content = Content()
    for (index, text) in bytes.split(
      separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false
    )
    .enumerated()
    where text.contains(where: { $0 > 0x20 }) {
      content.add(text, line: index + 1)
    }
    return content
  }

  // MARK: CSV

  private static func csv(_ bytes: [UInt8], _ path: String) throws -> Content {
    let read = CSVRecords(bytes)
    var records = read.records[...]
    guard let header = records.popFirst(), header.line <= read.problems.first?.line ?? .max else {
      throw read.problems.first?.within(.file(path))
        ?? Issue(
          [.file(path)], "has no rows",
          suggestion: "Write a header with the names of the columns, and a row for each clip.")
    }
    let names = header.fields.map { $0.trimmingCharacters(in: .whitespaces) }
    if let twice = names.first(where: { name in names.count { $0 == name } > 1 }) {
      throw Issue(
        [.file(path), .line(header.line)],
        "the header has the column \"\(twice)\" twice")
    }
    var content = Content(problems: read.problems, header: names)
    for record in records {
      guard record.fields.count <= names.count else {
        content.problems.append(
          Issue(
            [.line(record.line)],
            "the row has \(record.fields.count) fields, but the header has \(names.count) columns",
            suggestion: "Put fields that contain commas in double quotes."))
        continue
      }
      let values = zip(names, record.fields).filter { !$1.isEmpty }.map {
        ($0, JSON.string($1))
      }
      content.rows.append(
        DatasetRow(line: record.line, values: Dictionary(uniqueKeysWithValues: values)))
    }
    content.problems.sort { ($0.line ?? 0) < ($1.line ?? 0) }
    return content
  }
}

extension DatasetRow {
  /// Returns the row of a folder with its mark, if it has one.
  fileprivate func marked(by marks: JSONObject) -> DatasetRow {
    let media = values[Role.video.name] ?? values[Role.audio.name]
    guard let mark = media?.string.flatMap({ marks[$0] }), mark != .null else { return self }
    return DatasetRow(line: line, values: values.merging([ReviewMark.column: mark]) { $1 })
  }
}

extension DatasetFile.Content {
  /// Decodes the object of a row.
  mutating func add(_ text: ArraySlice<UInt8>, line: Int) {
    let row: JSON
    do { row = try JSON(parsing: text) } catch {
      problems.append(Issue([.line(line)], "is not valid JSON: \(error.problem)"))
      return
    }
    guard case .object(let members) = row else {
      problems.append(
        Issue([.line(line)], "must be an object with a media file and a caption"))
      return
    }
    rows.append(DatasetRow(line: line, values: members.dictionary.filter { $0.value != .null }))
  }
}
