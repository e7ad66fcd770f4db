import Foundation
import Media
import NN

/// A sample of a dataset: its media files, its caption, and the name that its cached files go by.
public struct DatasetSample: Equatable, Sendable {
  /// The line of the dataset file; nil in a folder.
  public let line: Int?
  /// Its place among all rows, those that can't be used too.
  public let index: Int
  public let caption: String
  /// The first media file as the dataset names it: the clip, or the sound where there is none.
  public let media: String
  /// Media files as paths from the root of the file system.
  public let paths: [Role: String]
  /// The media file's path from the dataset's folder, without its last extension: `scenes/a` for
  /// `scenes/a.mp4`.
  public let name: String
  /// How often the sample appears in an epoch of training.
  public let repeats: Int

  /// Where a message has it: `dataset.json:3`.
  public func place(in dataset: String) -> String { line.map { "\(dataset):\($0)" } ?? dataset }
}

/// A list of media with captions: a file, or a folder.
public struct Dataset: Sendable {
  public let path: String
  public let columns: DatasetColumns
  /// Samples whose row is sound. Their media may be missing or damaged.
  public let samples: [DatasetSample]
  /// Rows that can't be used.
  public let problems: [RowProblem]
  /// The other files of the folder and why they are skipped; empty for a file.
  public let skipped: SkippedFiles
  public var rowCount: Int { samples.count + problems.count }

  /// - Parameters:
  ///   - path: a `.json`, `.jsonl` or `.csv` file, or a folder of media with captions beside them.
  ///   - columns: those that the user names; the others are found by their names.
  /// - Throws: `PreprocessingError` for a file that is no dataset, is empty, or has no columns of
  ///   media and captions.
  public init(path: String, columns named: [Role: String] = [:]) throws {
    let file = try DatasetFile(path: path)
    self.path = path
    skipped = file.skipped
    columns = try DatasetColumns(of: file, named: named)
    var samples: [DatasetSample] = []
    var problems = file.problems
    var places: [[UInt8]: DatasetRow] = [:]
    for (index, row) in file.rows.enumerated() {
      do {
        let sample = try Self.sample(row, index, columns, file.root, file.nearCaptions)
        if let first = places[Array(sample.name.utf8)] {
          throw RowProblem(
            line: row.line,
            "\(sample.media) would be cached under the same name as "
              + "\(first.line.map { "the row of line \($0)" } ?? "another file"), \(sample.name); "
              + "list a clip once, and rename files that differ in their extension only")
        }
        places[Array(sample.name.utf8)] = row
        samples.append(sample)
      } catch let problem as RowProblem {
        problems.append(problem)
      }
    }
    self.samples = samples
    self.problems = problems.sorted { ($0.line ?? 0) < ($1.line ?? 0) }
  }

  private static func sample(
    _ row: DatasetRow, _ index: Int, _ columns: DatasetColumns, _ root: String,
    _ nearCaptions: [String: String]
  ) throws -> DatasetSample {
    var given: [Role: String] = [:]
    for (role, column) in columns.names where role.isMedia {
      given[role] = try text(row, column).map { try path($0, row, column) }
    }
    guard let media = given[.video] ?? given[.audio] else {
      let names = [Role.video, .audio].compactMap { columns[$0] }.map { "\"\($0)\"" }
      throw RowProblem(
        line: row.line,
        "the media file is missing: the row has no \(names.joined(separator: " or ")); add it or remove the row"
      )
    }
    let name = outputName(of: absolutePath(media, in: root), root: root)
    let column = columns[.caption] ?? "caption"
    let caption: String?
    do {
      caption = try text(row, column)
    } catch {
      throw RowProblem(line: row.line, sample: name, "\(media): \(error.problem)")
    }
    guard let caption else {
      if let near = nearCaptions[media] {
        throw RowProblem(
          line: row.line, sample: name,
          "\(media): has no caption of its name, but \(near) is there. Rename it to "
            + "\((name as NSString).lastPathComponent).txt")
      }
      throw RowProblem(
        line: row.line, sample: name,
        row.line == nil
          ? "\(media): the caption is missing; write it into a .txt file of the same name"
          : "\(media): the caption is missing: the row has no \"\(column)\"; add it or remove the row"
      )
    }
    return DatasetSample(
      line: row.line, index: index, caption: caption, media: media,
      paths: given.mapValues { absolutePath($0, in: root) }, name: name,
      repeats: try repeats(row, columns[.repeats], media))
  }

  /// The text of a column; nil where the row does not have it.
  private static func text(_ row: DatasetRow, _ column: String) throws(RowProblem) -> String? {
    switch row.values[column] {
    case nil: return nil
    case .string(let value):
      guard value.contains(where: { !$0.isWhitespace }) else {
        throw RowProblem(line: row.line, "\"\(column)\" is empty; fill it in or remove the row")
      }
      return value
    default: throw RowProblem(line: row.line, "\"\(column)\" must be text")
    }
  }

  /// The count of a row's column `repeats`; 1 where the row does not have it.
  private static func repeats(_ row: DatasetRow, _ column: String?, _ media: String)
    throws(RowProblem) -> Int
  {
    guard let column, let value = row.values[column] else { return 1 }
    let (count, text): (Int?, String) =
      switch value {
      case .number(let number): (Int(exactly: number), String(format: "%g", number))
      case .string(let text): (Int(text.trimmingCharacters(in: .whitespaces)), "\"\(text)\"")
      default: (nil, "no number")
      }
    guard let count, SampleRepeats.range.contains(count) else {
      throw RowProblem(
        line: row.line,
        "\(media): \"\(column)\" must be an integer between \(SampleRepeats.range.lowerBound) and "
          + "\(SampleRepeats.range.upperBound) (got \(text)). Correct it, or remove it for 1")
    }
    return count
  }

  private static func path(_ value: String, _ row: DatasetRow, _ column: String) throws -> String {
    guard !value.contains("\0") else {
      throw RowProblem(line: row.line, "\"\(column)\" holds a zero byte, which no file's name has")
    }
    return value.trimmingCharacters(in: .whitespacesAndNewlines)
  }
}

/// A path from the root of the file system, with `.` and `..` worked out by name.
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

/// Files outside the dataset's folder keep their whole path below the output folder, so nothing is
/// ever written elsewhere.
func outputName(of path: String, root: String) -> String {
  let prefix = root == "/" ? root : root + "/"
  let relative = path.dropFirst(path.hasPrefix(prefix) ? prefix.count : 1)
  let start = relative.lastIndex(of: "/").map(relative.index(after:)) ?? relative.startIndex
  guard let dot = relative[start...].lastIndex(of: "."), dot > start else {
    return String(relative)
  }
  return String(relative[..<dot])
}
