import Foundation
import NN

/// A dataset file as the checks look at it: rows are listed even if they could not be preprocessed.
///
/// The one place where `ltx dataset` meets the reader of dataset files.
struct DatasetListing: Sendable {
  struct Row: Sendable {
    /// In the dataset file, from 1.
    let line: Int
    /// The name that its cached files go by; nil where the row names no media file.
    let name: String?
    /// From the root of the file system; nil likewise.
    let mediaPath: String?
    /// The files that each kind of cached file is made from.
    let sources: [CacheContent: String]
    /// Empty where there is none.
    let caption: String
  }

  let path: String
  let rows: [Row]

  /// - Parameters:
  ///   - mediaColumn: a column that the user named; nil to find one. Likewise `captionColumn`.
  /// - Throws: `PreprocessingError` for a file that is no dataset.
  init(path: String, mediaColumn: String? = nil, captionColumn: String? = nil) throws {
    let file = try DatasetFile(path: path)
    let columns = try DatasetColumns(of: file, media: mediaColumn, caption: captionColumn)
    let root = absolutePath((path as NSString).deletingLastPathComponent)
    func text(_ row: DatasetRow, _ column: String) -> String {
      if case .string(let text) = row.values[column] { text } else { "" }
    }
    func source(_ row: DatasetRow, _ column: String) -> String? {
      let named = text(row, column).trimmingCharacters(in: .whitespacesAndNewlines)
      return named.isEmpty ? nil : absolutePath(named, in: root)
    }
    self.path = path
    rows = file.rows.map { row in
      let media = source(row, columns.media)
      var sources = Self.columns.compactMapValues { names in names.lazy.compactMap { source(row, $0) }.first }
      sources[.latents] = media
      // Without a column of its own, sound is the clip's.
      if let media, sources[.audioLatents] == nil { sources[.audioLatents] = media }
      return Row(
        line: row.line, name: media.map { Self.name(of: $0, root: root) }, mediaPath: media,
        sources: sources, caption: text(row, columns.caption))
    }
  }

  /// Columns of what goes with a clip.
  private static let columns: [CacheContent: [String]] = [
    .audioLatents: ["audio"], .referenceLatents: ["reference_video", "ref_media_path"],
    .referenceAudioLatents: ["reference_audio"], .videoMasks: ["video_mask"], .audioMasks: ["audio_mask"],
  ]

  /// Files beside a cache that could be its dataset, by their endings.
  static func candidates(beside cache: DatasetCache) -> [String] {
    let folder = (absolutePath(cache.root) as NSString).deletingLastPathComponent
    do {
      return try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        .filter { ["json", "jsonl", "csv"].contains(($0 as NSString).pathExtension.lowercased()) }
        .map { "\(folder)/\($0)" }
    } catch {
      return []  // a folder that may not be listed
    }
  }

  /// Rows by the name of their cached files; of two with one name the first.
  var byName: [String: Row] {
    Dictionary(
      rows.compactMap { row in row.name.map { ($0, row) } }, uniquingKeysWith: { first, _ in first })
  }

  /// The file's path below the dataset's folder without its last extension, as `ltx preprocess` names what it caches.
  private static func name(of path: String, root: String) -> String {
    let prefix = root == "/" ? root : root + "/"
    let relative = String(path.dropFirst(path.hasPrefix(prefix) ? prefix.count : 1))
    return (relative as NSString).deletingPathExtension
  }
}
