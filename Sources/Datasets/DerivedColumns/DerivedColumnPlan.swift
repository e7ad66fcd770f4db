import Foundation
import Media
import Support

/// The values to make for a derived column, and their destinations.
public struct DerivedColumnPlan: Sendable {
  /// A value for all rows with the same clip.
  struct Job: Sendable {
    let clip: DerivedClip
    /// The file of the value; nil for a text.
    let file: DerivedFile?
    var rows: [Int]
  }

  public let column: any DerivedColumn
  let options: DerivedColumnOptions
  /// The dataset file; nil for a folder of media, where a value is found by its file's name.
  let text: DatasetText?
  /// The original content of the dataset file.
  let original: Data
  /// The folder of the dataset.
  let folder: String
  private(set) var jobs: [Job] = []
  /// The problems of rows that can't get a value.
  private(set) var failures: [Issue] = []
  let lines: [Int?]
  /// The current values of the rows in the column.
  let values: [String?]
  /// The files of a folder of media that are skipped.
  public let skipped: SkippedFiles

  public var clipCount: Int { jobs.count }

  /// Reads the dataset. No clip is opened yet.
  ///
  /// - Throws: `Issue` for an option or a dataset that can't be used.
  public init(_ column: any DerivedColumn, _ options: DerivedColumnOptions) throws {
    self.column = column
    self.options = options
    original = FileManager.default.contents(atPath: options.dataset) ?? Data()
    let dataset = try DatasetFile(path: options.dataset)
    if let problem = dataset.problems.first {
      throw problem.within(.file(options.dataset))
    }
    text = dataset.isFolder ? nil : try DatasetText(path: options.dataset)
    guard text.map({ $0.rowCount == dataset.rows.count }) ?? true else {
      throw Issue(
        [.file(options.dataset)], "its rows can't be separated",
        suggestion: "Start every row on a new line.")
    }
    lines = dataset.rows.map(\.line)
    values = dataset.rows.map { row in
      guard case .string(let value)? = row.values[column.name], !value.isEmpty else { return nil }
      return value
    }
    skipped = dataset.skipped
    folder = dataset.root
    let mediaColumn = try Self.mediaColumn(of: dataset, named: options.videoColumn)
    try column.check(
      dataset: options.dataset, isFolder: dataset.isFolder, columns: dataset.columns)
    try checkOutput()
    let root = options.mediaFolder.map { absolutePath($0) } ?? dataset.root
    plan(dataset, column: mediaColumn, root: root)
    try checkMove()
  }

  private static func mediaColumn(of dataset: DatasetFile, named: String?) throws -> String {
    let existing = "the dataset has \(dataset.columns.joined(separator: ", "))"
    if let named {
      guard dataset.columns.contains(named) else {
        throw Issue(
          ["columns", "video"], "\(dataset.path) has no column \"\(named)\"; \(existing)")
      }
      return named
    }
    let names = Role.video.columnNames
    guard let column = names.first(where: dataset.columns.contains) else {
      throw Issue(
        [.file(dataset.path)],
        "has no column of media files (\(existing), expected one of "
          + "\(names.joined(separator: ", ")))", suggestion: "Name the column with `columns.video`."
      )
    }
    return column
  }

  private mutating func plan(_ dataset: DatasetFile, column mediaColumn: String, root: String) {
    var places: [String: Int] = [:]
    var sources: Set<String> = []
    for (row, entry) in dataset.rows.enumerated() {
      // In a folder, audio without a clip is a separate sample.
      if entry.line == nil, entry.values[mediaColumn] == nil { continue }
      do {
        guard try ReviewMark.of(entry) != .leftOut else { continue }
      } catch {
        failures.append(error.prefixed(by: place(ofRow: row)))
        continue
      }
      guard case .string(let value)? = entry.values[mediaColumn],
        case let media = value.trimmingCharacters(in: .whitespacesAndNewlines), !media.isEmpty
      else {
        fail(
          row, "there is no media file in \"\(mediaColumn)\"", "Fill it in or remove the row.")
        continue
      }
      let clip = DerivedClip(media: media, source: absolutePath(media, in: root), root: root)
      sources.insert(clip.source)
      let file = column.file(for: clip)
      let place = file?.path ?? clip.source
      guard let index = places[place] else {
        places[place] = jobs.count
        jobs.append(Job(clip: clip, file: file, rows: [row]))
        continue
      }
      if jobs[index].clip.source == clip.source {
        jobs[index].rows.append(row)
      } else {
        fail(
          row,
          "the \(column.noun) of \(media) would have the name of "
            + "\(owner(ofRow: jobs[index].rows[0])), \(file?.value ?? "")",
          "Rename clips that differ only in their extension.")
      }
    }
    // A clip of the dataset is never overwritten.
    let isOverClip = { (job: Job) in job.file.map { sources.contains($0.path) } ?? false }
    let overClips = jobs.filter(isOverClip)
    jobs.removeAll(where: isOverClip)
    for job in overClips {
      for row in job.rows {
        fail(
          row,
          "the \(column.noun) of \(job.clip.media) would replace a clip of the dataset, "
            + "\(job.file?.value ?? "")", "Choose another suffix.")
      }
    }
  }

  private func owner(ofRow row: Int) -> String {
    lines[row].map { "line \($0)'s" } ?? "another clip's"
  }

  private mutating func fail(_ row: Int, _ problem: String, _ suggestion: String) {
    failures.append(Issue(place(ofRow: row), problem, suggestion: suggestion))
  }

  /// The subject of a row's problems.
  func place(ofRow row: Int) -> [Issue.PathComponent] {
    [.file(options.dataset)] + (lines[row].map { [.line($0)] } ?? [])
  }

  private func checkOutput() throws {
    guard let output = options.outputDataset else { return }
    let (from, to) = (
      (options.dataset as NSString).pathExtension, (output as NSString).pathExtension
    )
    guard from.lowercased() == to.lowercased() else {
      throw Issue(
        ["output", .file(output)], "must have the extension of the dataset, .\(from)",
        suggestion: "Datasets are not converted.")
    }
  }

  /// Checks that paths relative to the dataset's folder stay valid in the output.
  private func checkMove() throws {
    guard let output = options.outputDataset,
      absolutePath((output as NSString).deletingLastPathComponent) != folder,
      let job = jobs.first(where: { !$0.clip.media.hasPrefix("/") })
    else { return }
    throw Issue(
      ["output", .file(output)],
      "is in another folder than the dataset, whose paths (\(job.clip.media)) are relative",
      suggestion: "Write the output beside the dataset.")
  }
}
