import Datasets
import Foundation
import Media
import Support

/// Captions of a folder of media, in text files beside the clips. Marks are in a hidden file.
struct FolderCaptionStore: CaptionStore {
  let path: String
  var keepsMarks: Bool { true }

  func read() throws -> ReviewContent {
    let file = try DatasetFile(path: path)
    var paths: [String: String] = [:]
    var files = [marksFile: try Self.bytes(of: marksFile)]
    let rows = try file.rows.map { row in
      let media = row.values[Role.video.name]?.string ?? row.values[Role.audio.name]?.string ?? ""
      let audio =
        row.values[Role.video.name] == nil ? nil : row.values[Role.audio.name]?.string
      for name in [media, audio].compactMap({ $0 }) { paths[name] = "\(file.root)/\(name)" }
      let captionFile = captionFile(of: media)
      files[captionFile] = try Self.bytes(of: captionFile)
      return ReviewContent.Row(
        media: media, audio: audio, line: nil,
        caption: row.values[Role.caption.name]?.string ?? "",
        mark: try Issue.within(.file(marksFile), .name(media)) { try ReviewMark.of(row) })
    }
    return ReviewContent(
      rows: rows, paths: paths, files: files, notes: file.problems.map { "\($0)" })
  }

  private var marksFile: String { "\(path)/\(ReviewMark.fileName)" }

  /// The file of a clip's caption, which may not exist.
  private func captionFile(of media: String) -> String {
    let ending = MediaExtension.name(ofFile: media)
    let stem = ending.isEmpty ? media : String(media.dropLast(ending.count + 1))
    let candidates = ["txt", "TXT", "Txt"].map { "\(path)/\(stem).\($0)" }
    return candidates.first(where: isFile) ?? candidates[0]
  }

  func write(_ edits: [ReviewEdit], over content: ReviewContent) throws {
    // Marks are checked before the first file is written.
    let marks = try newMarks(edits, over: content)
    for edit in edits {
      guard let caption = edit.caption else { continue }
      let file = captionFile(of: edit.media)
      try Self.write(Self.replacing(content.files[file] ?? [], with: caption), to: file)
    }
    if let marks { try Self.write(marks, to: marksFile) }
  }

  /// Returns the content of a caption file with another caption. White space around the caption
  /// stays, and so does a byte order mark.
  private static func replacing(_ bytes: [UInt8], with caption: String) -> [UInt8] {
    let text = String(decoding: bytes, as: UTF8.self)
    let isOutside = { (scalar: Unicode.Scalar) in
      scalar == "\u{FEFF}" || CharacterSet.whitespacesAndNewlines.contains(scalar)
    }
    let scalars = text.unicodeScalars
    guard let first = scalars.firstIndex(where: { !isOutside($0) }),
      let last = scalars.lastIndex(where: { !isOutside($0) })
    else { return Array((caption + "\n").utf8) }
    return Array(
      (String(scalars[..<first]) + caption + String(scalars[scalars.index(after: last)...])).utf8)
  }

  /// Returns the new content of the file of marks; nil if no mark changes.
  private func newMarks(_ edits: [ReviewEdit], over content: ReviewContent) throws -> [UInt8]? {
    guard edits.contains(where: { $0.mark != nil }) else { return nil }
    let bytes = content.files[marksFile] ?? []
    var marks: JSONObject = bytes.isEmpty ? [:] : try JSON(parsing: bytes).object ?? [:]
    for edit in edits where edit.mark != nil {
      marks[edit.media] = try edit.newMark().map { .string($0.rawValue) }
    }
    return Array(JSON.object(marks).data(.pretty)) + [UInt8(ascii: "\n")]
  }

  func lock() throws -> OutputLock {
    try OutputLock(folder: path, purpose: Self.purpose, warn: { _ in })
  }
}
