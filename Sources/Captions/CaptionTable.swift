import Datasets
import Foundation
import Media
import Support

/// The rows of a file of captions, and its text for changing single captions.
///
/// JSON, JSONL and CSV files are datasets. As upstream writes it, `NAME.txt` stands for two files
/// with one value per line: `NAME_captions.txt` and `NAME_paths.txt`.
struct CaptionTable: Sendable {
  struct Row: Equatable, Sendable {
    /// The path of the media file in the row.
    let media: String
    /// `MediaClip.identity` of the media file.
    let identity: String
    /// Empty for a row without a caption.
    var caption: String
    let isLeftOut: Bool
  }

  let path: String
  private(set) var rows: [Row] = []
  private let mediaColumn: String
  private let captionColumn: String
  /// The content of the files that this table was read from, which shows whether others have
  /// changed them; nil for a file that does not exist.
  private var content: [Data?]
  /// Nil for a file that does not exist or is empty.
  private var edits: CaptionEdits?
  private var paths: CaptionLines?

  var isText: Bool { Self.isText(path) }

  /// The files that a path stands for.
  static func files(of path: String) -> [String] {
    guard isText(path) else { return [path] }
    let stem = (path as NSString).deletingPathExtension
    return ["\(stem)_captions.txt", "\(stem)_paths.txt"]
  }

  private static func isText(_ path: String) -> Bool {
    (path as NSString).pathExtension.lowercased() == "txt"
  }

  /// - Parameter columns: The columns of media and captions that the user names; the others are
  ///   found by their names.
  /// - Throws: `Issue` for a file that can't be read or is not well formed: its captions would be
  ///   lost if it were written.
  init(path: String, columns: [Role: String] = [:]) throws {
    self.path = path
    let files = Self.files(of: path)
    content = try files.map(Self.read)
    let folder = (path as NSString).deletingLastPathComponent
    var (media, caption) = (columns[.video] ?? "media_path", columns[.caption] ?? "caption")
    if Self.isText(path) {
      (rows, edits, paths) = try Self.lines(content, files, folder)
    } else if let data = content[0], !data.isEmpty {
      let bytes = [UInt8](data)
      let edits = try CaptionEdits(bytes, path: path)
      if edits.rowCount > 0 {
        let file = try DatasetFile(path: path, bytes: bytes)
        if let problem = file.problems.first {
          throw problem.within(.file(path))
        }
        guard file.rows.count == edits.rowCount else {
          throw Issue(
            [.file(path)], "its rows can't be separated",
            suggestion: "Start every row on a new line.")
        }
        media = try Self.column(.video, in: file, named: columns)
        caption =
          columns[.caption] ?? Role.caption.columnNames.first(where: file.columns.contains)
          ?? "caption"
        rows = try file.rows.map { try Self.row($0, media, caption, folder, path) }
      }
      self.edits = try CaptionEdits(bytes, path: path, captionColumn: caption)
    }
    (mediaColumn, captionColumn) = (media, caption)
  }

  private static func read(_ path: String) throws -> Data? {
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    do { return try Data(contentsOf: URL(fileURLWithPath: path)) } catch {
      throw Issue([.file(path)], "can't be read: \(reason(of: error))")
    }
  }

  private static func column(
    _ role: Role, in file: DatasetFile, named: [Role: String]
  ) throws -> String {
    // Audio without a clip has a column of its own.
    let names = role.columnNames + Role.audio.columnNames
    guard let column = named[role] ?? names.first(where: file.columns.contains) else {
      throw Issue(
        [.file(file.path)],
        "has no column of media files (it has \(file.columns.joined(separator: ", ")), expected "
          + "one of \(names.joined(separator: ", ")))",
        suggestion: "Name the column with `columns.\(role.name)`.")
    }
    guard file.columns.contains(column) else {
      throw Issue(
        ["columns", .name(role.name)],
        "\(file.path) has no column \"\(column)\" (it has \(file.columns.joined(separator: ", ")))")
    }
    return column
  }

  private static func row(
    _ row: DatasetRow, _ mediaColumn: String, _ captionColumn: String, _ folder: String,
    _ path: String
  ) throws -> Row {
    func text(_ column: String) throws -> String {
      guard let value = row.values[column] else { return "" }
      guard let text = value.string else {
        throw Issue([.file(path), .line(row.line ?? 1), .name(column)], "must be a string")
      }
      return text
    }
    let media = try text(mediaColumn).trimmingCharacters(in: .whitespacesAndNewlines)
    let caption = try text(captionColumn)
    let mark = try Issue.within(.file(path), .line(row.line ?? 1)) { try ReviewMark.of(row) }
    return Row(
      media: media, identity: media.isEmpty ? "" : identity(of: media, in: folder),
      caption: caption.contains { !$0.isWhitespace } ? caption : "", isLeftOut: mark == .leftOut)
  }

  private static func identity(of media: String, in folder: String) -> String {
    MediaClip.identity(of: media.hasPrefix("/") || folder.isEmpty ? media : "\(folder)/\(media)")
  }

  private static func lines(
    _ content: [Data?], _ files: [String], _ folder: String
  ) throws -> ([Row], CaptionEdits?, CaptionLines?) {
    guard content.contains(where: { $0 != nil }) else { return ([], nil, nil) }
    let captions = try CaptionLines([UInt8](content[0] ?? Data()), path: files[0])
    let paths = try CaptionLines([UInt8](content[1] ?? Data()), path: files[1])
    guard captions.count == paths.count else {
      throw Issue(
        [.file(files[0])],
        "has \(captions.count) lines, but \(files[1]) has \(paths.count), so that captions can't be "
          + "matched with their clips",
        suggestion: "Make the lines correspond, or choose another output.")
    }
    let rows = zip(captions.values, paths.values).map { caption, media in
      Row(
        media: media, identity: identity(of: media, in: folder),
        caption: caption.contains { !$0.isWhitespace } ? caption : "", isLeftOut: false)
    }
    let edits = try CaptionEdits([UInt8](content[0] ?? Data()), path: files[0])
    return (rows, edits, paths)
  }

  /// Whether the files still have the content that was read.
  func isCurrent() throws -> Bool {
    try Self.files(of: path).map(Self.read) == content
  }

  /// Sets the caption of a row.
  mutating func set(_ caption: String, row: Int) {
    edits?.set(row: row, to: caption)
    rows[row].caption = caption
  }

  /// Inserts a row before another one. Text files only grow at their ends.
  mutating func insert(_ caption: String, of clip: MediaClip, at row: Int) throws {
    let place = isText ? rows.count : row
    if isText, edits == nil {
      edits = try CaptionEdits([], path: path)
      paths = try CaptionLines([], path: path)
    }
    if edits == nil {
      edits = try CaptionEdits(
        Array(first(caption, clip.name).utf8), path: path, captionColumn: captionColumn)
    } else {
      edits?.insert(media: clip.name, caption: caption, mediaColumn: mediaColumn, at: place)
      paths?.insert(clip.name, at: place)
    }
    rows.insert(
      Row(
        media: clip.name, identity: MediaClip.identity(of: clip.path), caption: caption,
        isLeftOut: false), at: place)
  }

  /// The text of a new file with one row, as upstream writes it.
  private func first(_ caption: String, _ media: String) -> String {
    let quoted = [(captionColumn, caption), (mediaColumn, media)].map {
      "\(JSON.quoted($0)): \(JSON.quoted($1))"
    }
    switch (path as NSString).pathExtension.lowercased() {
    case "jsonl": return "{\(quoted.joined(separator: ", "))}\n"
    case "csv":
      let records = [[captionColumn, mediaColumn], [caption, media]]
      return records.map { $0.map(TextFormats.csvField).joined(separator: ",") + "\r\n" }.joined()
    default: return "[\n  {\n    \(quoted.joined(separator: ",\n    "))\n  }\n]"
    }
  }

  /// Writes the files atomically, each by itself.
  ///
  /// - Throws: `WritingError`.
  mutating func write() throws {
    let texts = [edits?.bytes, paths?.bytes].compactMap { $0.map { Data($0) } }
    for (file, text) in zip(Self.files(of: path), texts) {
      // A symbolic link stays, and its target is replaced.
      let place = URL(fileURLWithPath: file).resolvingSymlinksInPath().path
      try AtomicFile.write(text, to: place) { WritingError(path: file, code: $0.code) }
    }
    content = texts
  }
}
