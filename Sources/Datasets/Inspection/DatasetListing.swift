import Foundation
import Media

/// A dataset as the checks look at it.
struct DatasetListing: Sendable {
  struct Row: Sendable {
    /// In the dataset file, from 1; nil in a folder.
    let line: Int?
    /// The name that its cached files go by.
    let name: String
    /// From the root of the file system.
    let mediaPath: String
    /// The files that each kind of cached file is made from.
    let sources: [CacheFolder: String]
    let caption: String
    let repeats: Int
  }

  let path: String
  let rows: [Row]
  /// Rows that can't be used.
  let problems: [RowProblem]
  /// The other files of the folder.
  let skipped: SkippedFiles

  /// - Parameter columns: those that the user named.
  /// - Throws: `PreprocessingError` for what is no dataset.
  init(path: String, columns: [Role: String] = [:]) throws {
    let dataset = try Dataset(path: path, columns: columns)
    self.path = path
    problems = dataset.problems
    skipped = dataset.skipped
    rows = dataset.samples.compactMap { sample in
      let paths = sample.paths
      return (paths[.video] ?? paths[.audio]).map { media in
        let sources: [CacheFolder: String?] = [
          .latents: paths[.video], .audioLatents: paths[.audio] ?? media,
          .referenceLatents: paths[.referenceVideo],
          .referenceAudioLatents: paths[.referenceAudio], .videoMasks: paths[.videoMask],
          .audioMasks: paths[.audioMask],
        ]
        return Row(
          line: sample.line, name: sample.name, mediaPath: media,
          sources: sources.compactMapValues { $0 },
          caption: sample.caption, repeats: sample.repeats)
      }
    }
  }

  /// Files beside a cache that could be its dataset, by their endings; last the folder itself.
  static func candidates(beside cache: DatasetCache) -> [String] {
    let folder = (absolutePath(cache.root) as NSString).deletingLastPathComponent
    do {
      return try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        .filter { ["json", "jsonl", "csv"].contains(($0 as NSString).pathExtension.lowercased()) }
        .map { "\(folder)/\($0)" } + [folder]
    } catch {
      return []  // a folder that may not be listed
    }
  }

  /// Rows by the name of their cached files.
  var byName: [String: Row] { Dictionary(uniqueKeysWithValues: rows.map { ($0.name, $0) }) }
}
