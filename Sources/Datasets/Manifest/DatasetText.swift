import Foundation
import Support

/// A dataset file as text, for setting columns of single rows. Everything else stays unchanged,
/// byte for byte: the order of rows and keys, layout, quotes, line ends.
public struct DatasetText: Sendable {
  private enum Content: Sendable {
    /// A list of objects, or one object per line.
    case json(JSONText)
    case csv(CSVText)
  }

  public let path: String
  private var content: Content
  private var hasChanged = false

  /// - Throws: `Issue` for a file that can't be read or is not well formed.
  public init(path: String) throws {
    let bytes: [UInt8]
    do {
      bytes = try Array(Data(contentsOf: URL(fileURLWithPath: path)))
    } catch {
      throw Issue([.file(path)], "can't be read: \(reason(of: error))")
    }
    try self.init(bytes, path: path)
  }

  /// - Parameters:
  ///   - bytes: The content of the file.
  ///   - path: The path, whose extension says which format the content has.
  /// - Throws: `Issue` for content that is not well formed.
  public init(_ bytes: [UInt8], path: String) throws {
    self.path = path
    switch (path as NSString).pathExtension.lowercased() {
    case "csv": content = .csv(try CSVText(bytes, file: path))
    case "json": content = .json(try JSONText(list: bytes, file: path))
    case "jsonl": content = .json(try JSONText(lines: bytes, file: path))
    default:
      throw Issue(
        [.file(path)], "is not a dataset (expected a .json, .jsonl or .csv file)")
    }
  }

  /// The number of rows. Rows are numbered from 0, in the order in which datasets are read.
  public var rowCount: Int {
    switch content {
    case .json(let text): text.rowCount
    case .csv(let text): text.rowCount
    }
  }

  /// Sets the value of a column in a row. A new key or column comes last.
  ///
  /// - Precondition: the row exists.
  public mutating func set(_ column: String, row: Int, to value: String) {
    hasChanged = true
    switch content {
    case .json(var text):
      text.set(column, row: row, to: value)
      content = .json(text)
    case .csv(var text):
      text.set(column, row: row, to: value)
      content = .csv(text)
    }
  }

  /// Inserts a row before another one, in the layout of its neighbors. New columns come last.
  ///
  /// - Parameters:
  ///   - values: The values in the order of their keys; a table has its own order.
  ///   - row: The position of the new row; the number of rows for a new last row.
  /// - Precondition: the position is between 0 and the number of rows.
  public mutating func insert(_ values: [(column: String, value: String)], at row: Int) {
    hasChanged = true
    switch content {
    case .json(var text):
      text.insert(values, at: row)
      content = .json(text)
    case .csv(var text):
      text.insert(values, at: row)
      content = .csv(text)
    }
  }

  /// Removes a value from a row, if the row has it. In CSV, the field becomes empty and the column
  /// stays; the only column of a table is not changed.
  ///
  /// - Precondition: the row exists.
  public mutating func remove(_ column: String, row: Int) {
    switch content {
    case .json(var text):
      hasChanged = text.remove(column, row: row) || hasChanged
      content = .json(text)
    case .csv(var text):
      hasChanged = text.remove(column, row: row) || hasChanged
      content = .csv(text)
    }
  }

  /// The bytes of the file with its changes.
  public var bytes: [UInt8] {
    switch content {
    case .json(let text): text.bytes
    case .csv(let text): text.bytes
    }
  }

  /// Writes the file atomically. A file without changes is only written to another path.
  ///
  /// - Parameter target: the path; nil for `path`.
  /// - Throws: `WritingError`.
  public func write(to target: String? = nil) throws {
    guard hasChanged || (target ?? path) != path else { return }
    // A symbolic link stays, and its target is replaced.
    let place = URL(fileURLWithPath: target ?? path).resolvingSymlinksInPath().path
    try AtomicFile.write(Data(bytes), to: place) { [path] in
      WritingError(path: target ?? path, code: $0.code)
    }
  }
}
