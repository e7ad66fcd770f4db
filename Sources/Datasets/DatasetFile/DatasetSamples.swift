import Foundation
import NN

/// A clip with its caption, and the name that its cached files go by.
struct DatasetSample: Equatable, Sendable {
  /// The line of the dataset file.
  let line: Int
  /// The media file as the dataset names it.
  let media: String
  /// The same as a path from the root of the file system.
  let mediaPath: String
  let caption: String
  /// The media file's path from the dataset's folder, without its last extension: `scenes/a` for `scenes/a.mp4`.
  let name: String
}

/// Where a dataset says what: which columns hold the media files and the captions.
struct DatasetColumns: Equatable, Sendable {
  let media: String
  let caption: String

  /// Names that are looked for, the reference's own first.
  static let mediaNames = ["video", "media_path", "video_path", "media", "path", "file_name", "file", "clip"]
  static let captionNames = ["caption", "text", "prompt", "description"]
  /// What the reference makes of further columns, and this version does not.
  static let unused = [
    "audio", "reference_video", "ref_media_path", "reference_audio", "video_mask", "audio_mask",
  ]

  /// - Parameters:
  ///   - media: a column that the user named; nil to find one.
  ///   - caption: likewise.
  /// - Throws: `PreprocessingError` that lists the columns there are.
  init(of file: DatasetFile, media: String?, caption: String?) throws {
    func find(_ role: String, _ option: String, _ named: String?, _ known: [String]) throws -> String {
      if let found = (named.map { [$0] } ?? known).first(where: file.columns.contains) { return found }
      let there = "the dataset has \(file.columns.joined(separator: ", "))"
      if let named {
        throw PreprocessingError(
          .dataset, file: file.path, "there is no column \"\(named)\" (\(option)); \(there)")
      }
      throw PreprocessingError(
        .dataset, file: file.path,
        "there is no \(role) column: none is called \(known.joined(separator: ", ")); \(there); "
          + "name it with \(option)")
    }
    self.media = try find("media", "--video-column", media, Self.mediaNames)
    self.caption = try find("caption", "--caption-column", caption, Self.captionNames)
  }
}

extension DatasetFile {
  /// The clips of the dataset.
  ///
  /// - Throws: `PreprocessingError` with the line of a row without a media file or caption, and of two rows whose
  ///   cached files would have the same name.
  func samples(_ columns: DatasetColumns) throws -> [DatasetSample] {
    let root = absolutePath((path as NSString).deletingLastPathComponent)
    var lines: [String: Int] = [:]
    return try rows.map { row in
      let media = try text(row, columns.media, "media file").trimmingCharacters(in: .whitespacesAndNewlines)
      let caption = try text(row, columns.caption, "caption")
      let mediaPath = absolutePath(media, in: root)
      let name = outputName(of: mediaPath, root: root)
      if let first = lines.updateValue(row.line, forKey: name) {
        throw PreprocessingError(
          .dataset, file: path, line: row.line,
          "\(media) would be cached under the same name as the row of line \(first), \(name); "
            + "list a clip once, and rename files that differ in their extension only")
      }
      return DatasetSample(
        line: row.line, media: media, mediaPath: mediaPath, caption: caption, name: name)
    }
  }

  private func text(_ row: DatasetRow, _ column: String, _ what: String) throws -> String {
    func wrong(_ problem: String) -> PreprocessingError {
      PreprocessingError(.dataset, file: path, line: row.line, problem)
    }
    switch row.values[column] {
    case .string(let value):
      if value.contains(where: { !$0.isWhitespace }) { return value }
      throw wrong("the \(what) in \"\(column)\" is empty; fill it in or remove the row")
    case nil: throw wrong("the \(what) is missing: the row has no \"\(column)\"; add it or remove the row")
    default: throw wrong("the \(what) in \"\(column)\" must be text")
    }
  }
}

/// A path from the root of the file system, with `.` and `..` worked out by name.
func absolutePath(_ path: String, in folder: String = FileManager.default.currentDirectoryPath) -> String {
  var parts: [Substring] = []
  for part in (path.hasPrefix("/") ? path : "\(folder)/\(path)").split(separator: "/") where part != "." {
    if part == ".." { _ = parts.popLast() } else { parts.append(part) }
  }
  return "/" + parts.joined(separator: "/")
}

/// Files outside the dataset's folder keep their whole path below the output folder, so nothing is ever written
/// elsewhere.
private func outputName(of path: String, root: String) -> String {
  let prefix = root == "/" ? root : root + "/"
  let relative = path.dropFirst(path.hasPrefix(prefix) ? prefix.count : 1)
  let start = relative.lastIndex(of: "/").map(relative.index(after:)) ?? relative.startIndex
  guard let dot = relative[start...].lastIndex(of: "."), dot > start else { return String(relative) }
  return String(relative[..<dot])
}
