import Foundation
import Media
import Support

/// A dataset as the input of checks.
struct DatasetListing: Sendable {
  struct Row: Sendable {
    /// The line in the dataset file, from 1; nil in a folder.
    let line: Int?
    /// The name of the sample's cached files.
    let name: String
    /// The absolute path of the clip or audio.
    let mediaPath: String
    /// The files that the cached files are made from.
    let sources: [CacheFolder: String]
    let caption: String
    let repeats: Int
  }

  let rows: [Row]
  private let dataset: Dataset
  var path: String { dataset.path }
  /// The problems of rows that can't be used.
  var problems: [Issue] { dataset.problems }
  /// The other files of the folder.
  var skipped: SkippedFiles { dataset.skipped }

  /// The name of the sample that a problem concerns, if it concerns one.
  func sampleName(of problem: Issue) -> String? { dataset.sampleName(of: problem) }

  /// - Parameter columns: The columns that the user named.
  /// - Throws: `Issue` for a file that isn't a dataset.
  init(path: String, columns: [Role: String] = [:]) throws {
    dataset = try Dataset(path: path, columns: columns)
    rows = dataset.samples.compactMap { sample in
      let paths = sample.paths
      return (paths[.video] ?? paths[.audio]).map { media in
        let sources = Artifacts.all.compactMap { artifact in
          artifact.source(of: sample).map { (artifact.folder, $0) }
        }
        return Row(
          line: sample.line, name: sample.name, mediaPath: media,
          sources: Dictionary(uniqueKeysWithValues: sources),
          caption: sample.caption, repeats: sample.repeats)
      }
    }
  }

  /// Returns the files beside a cache that could be its dataset, by their extensions, and finally
  /// the folder itself.
  static func candidates(beside cache: DatasetCache) -> [String] {
    let folder = (absolutePath(cache.root) as NSString).deletingLastPathComponent
    do {
      return try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        .filter { ["json", "jsonl", "csv"].contains(($0 as NSString).pathExtension.lowercased()) }
        .map { "\(folder)/\($0)" } + [folder]
    } catch {
      return []  // a folder that can't be listed
    }
  }

  /// The rows by the names of their cached files.
  var byName: [String: Row] { Dictionary(uniqueKeysWithValues: rows.map { ($0.name, $0) }) }
}
