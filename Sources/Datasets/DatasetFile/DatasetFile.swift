import Foundation
import NN

/// One entry of a dataset: what its columns hold.
struct DatasetRow: Equatable, Sendable {
  /// Where it starts in its file, from 1.
  let line: Int
  let values: [String: JSONValue]
}

/// The rows of a dataset file: JSON (a list of objects), JSONL (an object a line) or CSV (a header, then rows).
struct DatasetFile: Sendable {
  let path: String
  /// All columns that a row has, in alphabetical order.
  let columns: [String]
  let rows: [DatasetRow]

  /// - Throws: `PreprocessingError` with the line for a file that is missing, empty, or not well formed.
  init(path: String) throws {
    self.path = path
    let rows: [DatasetRow]
    switch (path as NSString).pathExtension.lowercased() {
    case "json": rows = try Self.json(Self.read(path), path)
    case "jsonl": rows = try Self.jsonLines(Self.read(path), path)
    case "csv": rows = try Self.csv(Self.read(path), path)
    default:
      throw PreprocessingError(
        .dataset, file: path, "is no dataset that is known here: give a .json, .jsonl or .csv file")
    }
    guard !rows.isEmpty else {
      throw PreprocessingError(
        .dataset, file: path, "holds no rows; give one for each clip, with its media file and its caption")
    }
    self.rows = rows
    columns = Set(rows.flatMap(\.values.keys)).sorted()
  }

  private static func read(_ path: String) throws -> [UInt8] {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw PreprocessingError(.dataset, file: path, "there is no such file")
    }
    guard !isFolder.boolValue else {
      throw PreprocessingError(
        .dataset, file: path, "is a folder; give the file that lists its clips and captions")
    }
    var bytes: [UInt8]
    do {
      bytes = try Array(Data(contentsOf: URL(fileURLWithPath: path)))
    } catch {
      throw PreprocessingError(.dataset, file: path, "can't be read: \(error.localizedDescription)")
    }
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { bytes.removeFirst(3) }
    guard String(validating: bytes, as: UTF8.self) != nil else {
      throw PreprocessingError(.dataset, file: path, "is not UTF-8 text; save it in that encoding")
    }
    return bytes
  }

  // MARK: JSON

  private static func json(_ bytes: [UInt8], _ path: String) throws -> [DatasetRow] {
    guard case .array(let entries) = try decode(bytes[...], path, line: nil) else {
      throw PreprocessingError(.dataset, file: path, "must be a list of objects, [{…}, {…}]")
    }
    // Lines are looked up in the text, for the decoder does not tell them.
    let lines = try elementLines(bytes[...], path)
    return try entries.enumerated().map { index, entry in
      let line = index < lines.count ? lines[index] : 1
      return DatasetRow(line: line, values: try members(entry, path, line: line))
    }
  }

  private static func jsonLines(_ bytes: [UInt8], _ path: String) throws -> [DatasetRow] {
    try bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated()
      .compactMap { index, text in
        guard text.contains(where: { !isBlank($0) }) else { return nil }
        let entry = try decode(text, path, line: index + 1)
        _ = try elementLines(text, path, firstLine: index + 1)
        return DatasetRow(line: index + 1, values: try members(entry, path, line: index + 1))
      }
  }

  private static func decode(_ text: ArraySlice<UInt8>, _ path: String, line: Int?) throws -> JSONValue {
    do {
      return try JSONDecoder().decode(JSONValue.self, from: Data(text))
    } catch let DecodingError.dataCorrupted(context) {
      let cause = context.underlyingError as NSError?
      let reason = cause?.userInfo[NSDebugDescriptionErrorKey] as? String ?? context.debugDescription
      throw PreprocessingError(.dataset, file: path, line: line, "is not valid JSON: \(reason)")
    }
  }

  private static func members(
    _ entry: JSONValue, _ path: String, line: Int
  ) throws -> [String: JSONValue] {
    guard case .object(let members) = entry else {
      throw PreprocessingError(
        .dataset, file: path, line: line, "must be an object with a media file and a caption")
    }
    return members.filter { $0.value != .null }
  }

  /// The lines that the elements of the outermost list start on.
  ///
  /// - Parameter bytes: what the decoder has taken. It lets a comma pass that nothing follows; other programs don't, so
  ///   that is refused here.
  private static func elementLines(
    _ bytes: ArraySlice<UInt8>, _ path: String, firstLine: Int = 1
  ) throws -> [Int] {
    var lines: [Int] = []
    var (line, depth, inString, isEscaped, awaitsElement) = (firstLine, 0, false, false, false)
    var last = UInt8(ascii: " ")
    for byte in bytes {
      if byte == UInt8(ascii: "\n") { line += 1 }
      if inString {
        if isEscaped {
          isEscaped = false
        } else if byte == UInt8(ascii: "\\") {
          isEscaped = true
        } else if byte == UInt8(ascii: "\"") {
          inString = false
        }
        continue
      }
      if isBlank(byte) { continue }
      if last == UInt8(ascii: ","), byte == UInt8(ascii: "]") || byte == UInt8(ascii: "}") {
        throw PreprocessingError(
          .dataset, file: path, line: line, "is not valid JSON: nothing follows the comma before the bracket")
      }
      last = byte
      if awaitsElement, depth == 1, byte != UInt8(ascii: "]") {
        lines.append(line)
        awaitsElement = false
      }
      switch byte {
      case UInt8(ascii: "\""): inString = true
      case UInt8(ascii: "["), UInt8(ascii: "{"):
        depth += 1
        if depth == 1 { awaitsElement = true }
      case UInt8(ascii: "]"), UInt8(ascii: "}"): depth -= 1
      case UInt8(ascii: ","): if depth == 1 { awaitsElement = true }
      default: break
      }
    }
    return lines
  }

  private static func isBlank(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: " ") || (9...13).contains(byte)
  }

  // MARK: CSV

  private static func csv(_ bytes: [UInt8], _ path: String) throws -> [DatasetRow] {
    var records = try CSVRecords.parse(bytes, file: path)[...]
    guard let header = records.popFirst() else { return [] }
    let names = header.fields.map { $0.trimmingCharacters(in: .whitespaces) }
    if let twice = names.first(where: { name in names.count { $0 == name } > 1 }) {
      throw PreprocessingError(
        .dataset, file: path, line: header.line, "the column \"\(twice)\" stands twice in the header")
    }
    return try records.map { record in
      guard record.fields.count <= names.count else {
        throw PreprocessingError(
          .dataset, file: path, line: record.line,
          "the row has \(record.fields.count) fields, the header \(names.count) columns; "
            + "put a field that holds a comma in double quotes")
      }
      let values = zip(names, record.fields).filter { !$1.isEmpty }.map { ($0, JSONValue.string($1)) }
      return DatasetRow(line: record.line, values: Dictionary(uniqueKeysWithValues: values))
    }
  }
}
