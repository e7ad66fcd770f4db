import Captions
import Datasets
import Foundation
import Support

/// The columns that the user named.
struct ReviewColumns: Sendable {
  var named: [Role: String] = [:]

  /// Returns the column of a role; nil if the dataset has none.
  ///
  /// - Throws: `Issue` for a named column that the dataset does not have.
  func name(of role: Role, in file: DatasetFile) throws(Issue) -> String? {
    guard let name = named[role] else {
      return role.columnNames.first { file.columns.contains($0) && !named.values.contains($0) }
    }
    guard file.columns.contains(name) else {
      throw Issue(
        ["columns", .name(role.name)],
        "\(file.path) has no column \"\(name)\" (it has \(file.columns.joined(separator: ", ")))")
    }
    return name
  }
}

/// Captions in the rows of a JSON, JSONL or CSV file.
struct RowCaptionStore: CaptionStore {
  let path: String
  let columns: ReviewColumns
  var keepsMarks: Bool { true }

  func read() throws -> ReviewContent {
    // A missing file is reported by the reader of datasets.
    let bytes = isFile(path) ? try Self.bytes(of: path) : nil
    let file = try DatasetFile(path: path, bytes: bytes)
    if let problem = file.problems.first { throw problem.within(.file(path)) }
    guard let bytes, try DatasetText(bytes, path: path).rowCount == file.rows.count else {
      throw Issue(
        [.file(path)], "its rows can't be separated", suggestion: "Start every row on a new line.")
    }
    let video = try columns.name(of: .video, in: file)
    let audio = try columns.name(of: .audio, in: file)
    guard video != nil || audio != nil else {
      throw Issue(
        [.file(path)],
        "has no column of media files (it has \(file.columns.joined(separator: ", ")), expected "
          + "one of \(Role.video.columnNames.joined(separator: ", ")))",
        suggestion: "Name the column with `columns.video`.")
    }
    let caption = try captionColumn(of: file)
    var paths: [String: String] = [:]
    let rows = try file.rows.map { row in
      try Issue.within(.file(path), .line(row.line ?? 0)) {
        func media(_ column: String?) throws -> String? {
          guard let column, let name = try Self.text(row, column) else { return nil }
          let trimmed = name.trimmingCharacters(in: .whitespacesAndNewlines)
          guard !trimmed.isEmpty, !trimmed.contains("\0") else { return nil }
          paths[trimmed] = trimmed.hasPrefix("/") ? trimmed : "\(file.root)/\(trimmed)"
          return trimmed
        }
        let (clip, sound) = (try media(video), try media(audio))
        return ReviewContent.Row(
          media: clip ?? sound ?? "", audio: clip == nil ? nil : sound, line: row.line,
          caption: try Self.text(row, caption) ?? "", mark: try ReviewMark.of(row))
      }
    }
    return ReviewContent(rows: rows, paths: paths, files: [path: bytes])
  }

  private func captionColumn(of file: DatasetFile) throws(Issue) -> String {
    try columns.name(of: .caption, in: file) ?? Role.caption.name
  }

  private static func text(_ row: DatasetRow, _ column: String) throws(Issue) -> String? {
    guard let value = row.values[column] else { return nil }
    guard let text = value.string else {
      throw Issue([.name(column)], "must be a string (got \(value.kind))")
    }
    return text
  }

  func write(_ edits: [ReviewEdit], over content: ReviewContent) throws {
    let bytes = content.files[path] ?? []
    let caption = try captionColumn(of: DatasetFile(path: path, bytes: bytes))
    var text = try DatasetText(bytes, path: path)
    for edit in edits {
      if let new = edit.caption { text.set(caption, row: edit.row, to: new) }
      guard edit.mark != nil else { continue }
      if let mark = try edit.newMark() {
        text.set(ReviewMark.column, row: edit.row, to: mark.rawValue)
      } else {
        text.remove(ReviewMark.column, row: edit.row)
      }
    }
    try Self.write(text.bytes, to: path)
  }

  func lock() throws -> OutputLock { try CaptionFile.locking(path, purpose: Self.purpose) }
}
