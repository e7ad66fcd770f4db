import Datasets
import Foundation
import Media
import Support

/// The captions of a dataset at one moment.
struct ReviewContent: Sendable {
  struct Row: Equatable, Sendable {
    /// The clip, image or audio, as the dataset names it.
    let media: String
    /// The audio that replaces the clip's own, as the dataset names it.
    let audio: String?
    /// The line in the dataset file, from 1.
    let line: Int?
    var caption: String
    var mark: ReviewMark?
  }

  let rows: [Row]
  /// The absolute paths of the media files, by their names in the dataset.
  let paths: [String: String]
  /// The bytes of the files that hold the captions and marks, by their absolute paths.
  let files: [String: [UInt8]]
  /// A hash of the rows and the files. Edits apply to rows of the same version.
  let version: String
  /// Facts for the user, such as files of a folder that can't be used.
  let notes: [String]

  init(rows: [Row], paths: [String: String], files: [String: [UInt8]], notes: [String] = []) {
    (self.rows, self.paths, self.files, self.notes) = (rows, paths, files, notes)
    var hash = SHA256()
    func add(_ bytes: some Collection<UInt8>) {
      hash.update(Array("\(bytes.count) ".utf8))
      hash.update(Array(bytes))
    }
    for row in rows { add(row.media.utf8) }
    for (path, bytes) in files.sorted(by: { $0.key < $1.key }) {
      add(path.utf8)
      add(bytes)
    }
    version = hash.hexDigest()
  }

  /// The rows for the page.
  var json: JSON {
    [
      "version": .string(version), "notes": .array(notes.map(JSON.string)),
      "rows": .array(rows.map { Self.json($0, path: paths[$0.media]) }),
    ]
  }

  private static func json(_ row: Row, path: String?) -> JSON {
    let kind = MediaExtension(ofFile: row.media)?.kind ?? .video
    return [
      "media": .string(row.media), "kind": .string(kind.rawValue), "audio": JSON(row.audio),
      "line": row.line.map { JSON($0) } ?? .null, "caption": .string(row.caption),
      "mark": .string(row.mark?.rawValue ?? ""),
      "problem": JSON(problem(path)),
    ]
  }

  private static func problem(_ path: String?) -> String? {
    guard let path else { return "The row has no media file." }
    return isFile(path) ? nil : "The file does not exist."
  }
}

/// A change of a row.
struct ReviewEdit: Equatable, Sendable {
  let row: Int
  /// The row's media file, which shows that the row is the right one.
  let media: String
  /// Nil to keep the caption.
  var caption: String?
  /// A mark, or an empty string for none; nil to keep the mark.
  var mark: String?
}

extension ReviewEdit: Decodable {
  /// The mark as a value; nil for none.
  ///
  /// - Throws: `Issue` for another text than a mark's.
  func newMark() throws(Issue) -> ReviewMark? {
    guard let mark, !mark.isEmpty else { return nil }
    guard let known = ReviewMark(rawValue: mark) else {
      throw Issue([.name("edits"), .name("mark")], "is unknown (got \"\(mark)\")")
    }
    return known
  }
}
