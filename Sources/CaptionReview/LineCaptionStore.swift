import Captions
import Foundation
import Support

/// Captions as upstream writes them for an output `<name>.txt`: one per line in
/// `<name>_captions.txt`, and the paths of their media files in `<name>_paths.txt`. There is no
/// place for marks.
struct LineCaptionStore: CaptionStore {
  let path: String
  private let stem: String
  private var captions: String { "\(stem)_captions.txt" }
  private var media: String { "\(stem)_paths.txt" }
  var keepsMarks: Bool { false }

  /// - Parameter path: `<name>.txt`, or one of the two files.
  /// - Throws: `Issue` if one of the two files is missing.
  init(path: String) throws {
    self.path = path
    let name = (path as NSString).deletingPathExtension
    let ending = isFile(path) ? ["_captions", "_paths"].first(where: name.hasSuffix) : nil
    stem = String(name.dropLast(ending?.count ?? 0))
    for file in [captions, media] where !isFile(file) {
      throw Issue(
        [.file(file)], "does not exist",
        suggestion: "Captions in text files are lines of <name>_captions.txt, and their media "
          + "files are lines of <name>_paths.txt.")
    }
  }

  func read() throws -> ReviewContent {
    let bytes = (captions: try Self.bytes(of: captions), media: try Self.bytes(of: media))
    let texts = try CaptionLines(bytes.captions, path: captions).values
    let names = try CaptionLines(bytes.media, path: media).values
    guard texts.count == names.count else {
      throw Issue(
        [.file(captions)],
        "has \(texts.count) lines, but \(media) has \(names.count)",
        suggestion: "Correct the files: each caption is on the line of its media file.")
    }
    let folder = (media as NSString).deletingLastPathComponent
    let root = folder.isEmpty ? "." : folder
    return ReviewContent(
      rows: zip(names, texts).enumerated().map { index, pair in
        ReviewContent.Row(
          media: pair.0, audio: nil, line: index + 1, caption: pair.1, mark: nil)
      },
      paths: Dictionary(
        names.map { ($0, $0.hasPrefix("/") ? $0 : "\(root)/\($0)") }, uniquingKeysWith: { $1 }),
      files: [captions: bytes.captions, media: bytes.media])
  }

  func write(_ edits: [ReviewEdit], over content: ReviewContent) throws {
    var lines = try CaptionLines(content.files[captions] ?? [], path: captions)
    for edit in edits {
      if let caption = edit.caption { lines.set(edit.row, to: caption) }
    }
    try Self.write(lines.bytes, to: captions)
  }

  func lock() throws -> OutputLock { try CaptionFile.locking("\(stem).txt", purpose: Self.purpose) }
}
