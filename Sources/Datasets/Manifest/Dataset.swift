import Foundation
import Media
import NN
import Support

/// A sample of a dataset: its media files, its caption, and the name of its cached files.
public struct DatasetSample: Equatable, Sendable {
  /// The line in the dataset file; nil in a folder.
  public let line: Int?
  /// The position among all rows, including those that can't be used.
  public let index: Int
  public let caption: String
  /// The main media file as the dataset names it: the clip, or the audio without a clip.
  public let media: String
  /// The absolute paths of the media files.
  public let paths: [Role: String]
  /// The media file's path relative to the dataset's folder, without its last extension: `scenes/a`
  /// for `scenes/a.mp4`.
  public let name: String
  /// The number of times that the sample appears in an epoch of training.
  public let repeats: Int

  /// Returns the location for messages: `dataset.json:3`.
  public func place(in dataset: String) -> String { line.map { "\(dataset):\($0)" } ?? dataset }
}

/// A list of media with captions: a dataset file or a folder.
public struct Dataset: Sendable {
  public let path: String
  public let columns: DatasetColumns
  /// The samples of valid rows. Their media may be missing or damaged.
  public let samples: [DatasetSample]
  /// The problems of rows that can't be used. A problem's subject is the line and, if it concerns
  /// one sample, its media file.
  public let problems: [Issue]
  /// The number of rows that are marked as left out (`ReviewMark`).
  public let leftOut: Int
  /// The files of a folder that are skipped, with the reason; empty for a dataset file.
  public let skipped: SkippedFiles
  /// The folder that paths in the dataset are relative to.
  private let root: String
  /// The number of rows, without those that are left out.
  public var rowCount: Int { samples.count + problems.count }

  /// - Parameters:
  ///   - path: a `.json`, `.jsonl` or `.csv` file, or a folder of media with captions beside them.
  ///   - columns: the columns that the user names; the others are found by their names.
  /// - Throws: `Issue` for a file that is not a dataset, is empty, or has no columns of media and
  ///   captions, for a named column that it does not have, and if all rows are left out.
  public init(path: String, columns named: [Role: String] = [:]) throws {
    let file = try DatasetFile(path: path)
    self.path = path
    root = file.root
    skipped = file.skipped
    columns = try DatasetColumns(of: file, named: named)
    var samples: [DatasetSample] = []
    var problems = file.problems
    var places: [[UInt8]: DatasetRow] = [:]
    var leftOut = 0
    for (index, row) in file.rows.enumerated() {
      do {
        guard try ReviewMark.of(row) != .leftOut else {
          leftOut += 1
          continue
        }
        let sample = try Self.sample(row, index, columns, file.root, file.nearCaptions)
        if let first = places[Array(sample.name.utf8)] {
          throw Issue(
            "\(sample.media) would be cached under the same name as "
              + "\(first.line.map { "the row of line \($0)" } ?? "another file"), \(sample.name)",
            suggestion: "List a clip once, and rename files that differ only in their extension.")
        }
        places[Array(sample.name.utf8)] = row
        samples.append(sample)
      } catch let issue as Issue {
        problems.append(row.line.map { issue.within(.line($0)) } ?? issue)
      }
    }
    guard leftOut == 0 || !samples.isEmpty || !problems.isEmpty else {
      throw Issue(
        [.file(path)], "has no rows that are used: all are marked as left out",
        suggestion: "Remove the mark in \(ReviewMark.column) from some of them.")
    }
    self.samples = samples
    self.leftOut = leftOut
    self.problems = problems.sorted { ($0.line ?? 0) < ($1.line ?? 0) }
  }

  /// The name of the sample that one of the problems concerns; nil if its name is unknown.
  func sampleName(of problem: Issue) -> String? {
    problem.file.map { outputName(of: absolutePath($0, in: root), root: root) }
  }

  private static func sample(
    _ row: DatasetRow, _ index: Int, _ columns: DatasetColumns, _ root: String,
    _ nearCaptions: [String: String]
  ) throws -> DatasetSample {
    var given: [Role: String] = [:]
    for (role, column) in columns.names where role.isMedia {
      given[role] = try text(row, column).map { try path($0, column) }
    }
    guard let media = given[.video] ?? given[.audio] else {
      let names = [Role.video, .audio].compactMap { columns[$0] }.map { "\"\($0)\"" }
      throw Issue(
        "the media file is missing: the row has no \(names.joined(separator: " or "))",
        suggestion: "Add it or remove the row.")
    }
    let name = outputName(of: absolutePath(media, in: root), root: root)
    let column = columns[.caption] ?? "caption"
    guard let caption = try Issue.within(.file(media), body: { try text(row, column) }) else {
      if let near = nearCaptions[media] {
        throw Issue(
          [.file(media)], "has no caption with its name, but \(near) exists",
          suggestion: "Rename it to \((name as NSString).lastPathComponent).txt.")
      }
      throw row.line == nil
        ? Issue(
          [.file(media)], "the caption is missing",
          suggestion: "Write it to a .txt file of the same name.")
        : Issue(
          [.file(media)], "the caption is missing: the row has no \"\(column)\"",
          suggestion: "Add it or remove the row.")
    }
    return DatasetSample(
      line: row.line, index: index, caption: caption, media: media,
      paths: given.mapValues { absolutePath($0, in: root) }, name: name,
      repeats: try repeats(row, columns[.repeats], media))
  }

  /// Returns the text of a column; nil if the row does not have it.
  private static func text(_ row: DatasetRow, _ column: String) throws(Issue) -> String? {
    switch row.values[column] {
    case nil: return nil
    case .string(let value):
      guard value.contains(where: { !$0.isWhitespace }) else {
        throw Issue([.name(column)], "is empty", suggestion: "Fill it in or remove the row.")
      }
      return value
    default: throw Issue([.name(column)], "must be a string")
    }
  }

  /// Returns the repeats of a row; 1 if the row does not have any.
  private static func repeats(_ row: DatasetRow, _ column: String?, _ media: String)
    throws(Issue) -> Int
  {
    guard let column, let value = row.values[column] else { return 1 }
    let (count, text): (Int?, String) =
      switch value {
      case .number(let number): (number.int, String(format: "%g", number.double))
      case .string(let text): (Int(text.trimmingCharacters(in: .whitespaces)), "\"\(text)\"")
      default: (nil, "neither a number nor a string")
      }
    guard let count, SampleRepeats.range.contains(count) else {
      throw Issue(
        [.file(media), .name(column)],
        "must be an integer between \(SampleRepeats.range.lowerBound) and "
          + "\(SampleRepeats.range.upperBound) (got \(text))",
        suggestion: "Correct it, or remove it for 1.")
    }
    return count
  }

  private static func path(_ value: String, _ column: String) throws -> String {
    guard !value.contains("\0") else {
      throw Issue([.name(column)], "contains a zero byte, which file names can't have")
    }
    return value.trimmingCharacters(in: .whitespacesAndNewlines)
  }
}

/// Returns the absolute path, with `.` and `..` resolved by name.
func absolutePath(_ path: String, in folder: String = FileManager.default.currentDirectoryPath)
  -> String
{
  var parts: [Substring] = []
  for part in (path.hasPrefix("/") ? path : "\(folder)/\(path)").split(separator: "/")
  where part != "." {
    if part == ".." { _ = parts.popLast() } else { parts.append(part) }
  }
  return "/" + parts.joined(separator: "/")
}

/// Returns the name of a media file's cached files. Files outside of the dataset's folder keep
/// their full path below the output folder, so that nothing is written elsewhere.
func outputName(of path: String, root: String) -> String {
  let prefix = root == "/" ? root : root + "/"
  let relative = path.dropFirst(path.hasPrefix(prefix) ? prefix.count : 1)
  let start = relative.lastIndex(of: "/").map(relative.index(after:)) ?? relative.startIndex
  guard let dot = relative[start...].lastIndex(of: "."), dot > start else {
    return String(relative)
  }
  return String(relative[..<dot])
}
