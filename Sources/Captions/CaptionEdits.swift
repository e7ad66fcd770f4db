import Datasets
import Foundation
import Support

/// The text of a file of captions, for changing single captions. Everything else stays unchanged,
/// byte for byte: the order of rows and keys, layout, quotes, line ends.
///
/// The format follows the extension: JSON, JSONL and CSV as datasets, and `.txt` with one caption
/// per line, as in upstream's `<name>_captions.txt`.
public struct CaptionEdits: Sendable {
  private enum Content: Sendable {
    case rows(DatasetText)
    case lines(CaptionLines)
  }

  private var content: Content
  private let captionColumn: String

  /// - Parameters:
  ///   - bytes: The content of the file.
  ///   - path: The path of the file, for its extension and for messages.
  ///   - captionColumn: The key or column of the captions; text files have none.
  /// - Throws: `Issue` for content that is not well formed.
  public init(_ bytes: [UInt8], path: String, captionColumn: String = "caption") throws {
    self.captionColumn = captionColumn
    content =
      (path as NSString).pathExtension.lowercased() == "txt"
      ? .lines(try CaptionLines(bytes, path: path)) : .rows(try DatasetText(bytes, path: path))
  }

  /// The number of rows. Rows are numbered from 0, in the order of the file.
  public var rowCount: Int {
    switch content {
    case .rows(let text): text.rowCount
    case .lines(let lines): lines.count
    }
  }

  /// Sets the caption of a row. A text file gets spaces in place of line ends.
  ///
  /// - Precondition: the row exists.
  public mutating func set(row: Int, to caption: String) {
    switch content {
    case .rows(var text):
      text.set(captionColumn, row: row, to: caption)
      content = .rows(text)
    case .lines(var lines):
      lines.set(row, to: caption)
      content = .lines(lines)
    }
  }

  /// Inserts a row before another one, in the layout of its neighbors. A text file only gets the
  /// caption.
  ///
  /// - Parameters:
  ///   - media: The path of the media file, relative to the file of captions.
  ///   - row: The position of the new row; the number of rows for a new last row.
  /// - Precondition: the position is between 0 and the number of rows.
  public mutating func insert(
    media: String, caption: String, mediaColumn: String = "media_path", at row: Int
  ) {
    switch content {
    case .rows(var text):
      text.insert([(captionColumn, caption), (mediaColumn, media)], at: row)
      content = .rows(text)
    case .lines(var lines):
      lines.insert(caption, at: row)
      content = .lines(lines)
    }
  }

  /// The content of the file with its changes.
  public var bytes: [UInt8] {
    switch content {
    case .rows(let text): text.bytes
    case .lines(let lines): lines.bytes
    }
  }
}

/// A text file with one value per line.
public struct CaptionLines: Sendable {
  private struct Line: Sendable {
    var text: [UInt8]
    /// LF or CRLF; empty for a last line without one.
    var end: [UInt8]
  }

  /// The byte order mark, if there is one.
  private let start: [UInt8]
  private var lines: [Line] = []

  /// - Throws: `Issue` for content that is not UTF-8.
  public init(_ bytes: [UInt8], path: String) throws {
    guard String(validating: bytes, as: UTF8.self) != nil else {
      throw Issue([.file(path)], "is not UTF-8", suggestion: "Save it in that encoding.")
    }
    start = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? Array(bytes.prefix(3)) : []
    var rest = bytes.dropFirst(start.count)
    while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
      let text = rest[..<end]
      let hasReturn = text.last == UInt8(ascii: "\r")
      lines.append(
        Line(
          text: Array(hasReturn ? text.dropLast() : text),
          end: Array((hasReturn ? "\r\n" : "\n").utf8)))
      rest = rest[(end + 1)...]
    }
    if !rest.isEmpty { lines.append(Line(text: Array(rest), end: [])) }
  }

  public var count: Int { lines.count }

  /// The values without line ends.
  public var values: [String] { lines.map { String(decoding: $0.text, as: UTF8.self) } }

  public var bytes: [UInt8] { start + lines.flatMap { $0.text + $0.end } }

  /// Sets a value, with spaces in place of line ends.
  ///
  /// - Precondition: the line exists.
  public mutating func set(_ line: Int, to value: String) {
    lines[line].text = Self.written(value)
  }

  /// Inserts a line before another one.
  ///
  /// - Precondition: the position is between 0 and the number of lines.
  public mutating func insert(_ value: String, at line: Int) {
    let end = lines.first.flatMap { $0.end.isEmpty ? nil : $0.end } ?? [UInt8(ascii: "\n")]
    if line == lines.count, line > 0, lines[line - 1].end.isEmpty {
      lines[line - 1].end = end
      lines.append(Line(text: Self.written(value), end: []))
    } else {
      lines.insert(Line(text: Self.written(value), end: end), at: line)
    }
  }

  /// Python's `splitlines`, by which upstream reads these files, ends a line at each of these.
  private static func written(_ value: String) -> [UInt8] {
    var result = String.UnicodeScalarView()
    var followsReturn = false
    for scalar in value.unicodeScalars {
      switch scalar {
      case "\n" where followsReturn: break
      case "\n", "\r", "\u{B}", "\u{C}", "\u{1C}"..."\u{1E}", "\u{85}", "\u{2028}", "\u{2029}":
        result.append(" ")
      default: result.append(scalar)
      }
      followsReturn = scalar == "\r"
    }
    return Array(String(result).utf8)
  }
}
