import Foundation
import Media

/// Which references a dataset needs, and where they go.
public struct ReferencePlan: Sendable {
  /// A reference for all rows with the same clip.
  struct Job: Sendable {
    /// As the dataset names it.
    let media: String
    let source: String
    let folder: String
    let file: String
    /// What stands in the column.
    let value: String
    var rows: [Int]
  }

  static let column = "reference_video"
  /// What the column was called once.
  static let formerColumn = "reference_path"

  let options: ReferenceOptions
  /// Nil for a folder of media, where a reference is known by its name.
  let text: DatasetText?
  /// The dataset file as it was read.
  let original: Data
  private(set) var jobs: [Job] = []
  /// Rows that nothing can be made of.
  private(set) var failures: [PreprocessingError] = []
  let lines: [Int?]
  /// The other files of a folder of media.
  public let skipped: SkippedFiles

  public var clipCount: Int { jobs.count }

  /// Reads the dataset; no clip is opened yet.
  ///
  /// - Throws: `PreprocessingError` for a dataset or options that can't be used.
  public init(_ options: ReferenceOptions) throws {
    self.options = options
    original = FileManager.default.contents(atPath: options.dataset) ?? Data()
    let dataset = try DatasetFile(path: options.dataset)
    if let problem = dataset.problems.first {
      throw PreprocessingError(.dataset, file: options.dataset, line: problem.line, problem.problem)
    }
    text = dataset.isFolder ? nil : try DatasetText(path: options.dataset)
    guard text.map({ $0.rowCount == dataset.rows.count }) ?? true else {
      throw PreprocessingError(
        .dataset, file: options.dataset,
        "its rows can't be told apart; write every row on lines of its own")
    }
    lines = dataset.rows.map(\.line)
    skipped = dataset.skipped
    let names = options.videoColumn.map { [$0] } ?? Role.video.columnNames
    guard let column = names.first(where: dataset.columns.contains) else {
      throw PreprocessingError(
        .dataset, file: options.dataset,
        "there is no column \(names.map { "\"\($0)\"" }.joined(separator: ", ")); the dataset has "
          + dataset.columns.joined(separator: ", ") + "; name the media column with --video-column")
    }
    let datasetFolder = dataset.root
    if dataset.isFolder { try requireNames(dataset) }
    try checkOutput(datasetFolder: datasetFolder)
    let root = options.mediaFolder.map { absolutePath($0) } ?? datasetFolder
    plan(dataset, column: column, root: root)
    try checkMove(datasetFolder: datasetFolder)
  }

  private mutating func plan(_ dataset: DatasetFile, column: String, root: String) {
    var places: [String: Int] = [:]
    var sources: Set<String> = []
    for (row, entry) in dataset.rows.enumerated() {
      // In a folder, sounds stand for themselves.
      if entry.line == nil, entry.values[column] == nil { continue }
      guard case .string(let value)? = entry.values[column],
        case let media = value.trimmingCharacters(in: .whitespacesAndNewlines), !media.isEmpty
      else {
        fail(row, "there is no media file in \"\(column)\"; fill it in or remove the row")
        continue
      }
      let source = absolutePath(media, in: root)
      sources.insert(source)
      let job = job(media: media, source: source, root: root, row: row)
      let place = "\(job.folder)/\(job.file)"
      if let index = places[place] {
        if jobs[index].source == source {
          jobs[index].rows.append(row)
        } else {
          fail(
            row,
            "the reference of \(media) would have the name of \(owner(ofRow: jobs[index].rows[0])), \(job.value); "
              + "rename clips that differ in their extension only")
        }
      } else {
        places[place] = jobs.count
        jobs.append(job)
      }
    }
    // Never over a clip of the dataset.
    let overClips = jobs.filter { sources.contains("\($0.folder)/\($0.file)") }
    jobs.removeAll { sources.contains("\($0.folder)/\($0.file)") }
    for job in overClips {
      for row in job.rows {
        fail(
          row,
          "the reference of \(job.media) would replace a clip of the dataset, \(job.value); give another --suffix"
        )
      }
    }
  }

  private func owner(ofRow row: Int) -> String {
    lines[row].map { "line \($0)'s" } ?? "another clip's"
  }

  private mutating func fail(_ row: Int, _ problem: String) {
    failures.append(
      PreprocessingError(.dataset, file: options.dataset, line: lines[row], problem))
  }

  private func job(media: String, source: String, root: String, row: Int) -> Job {
    let name = source as NSString
    let type = MediaExtension(ofFile: source)?.kind == .image ? "png" : "mp4"
    let stem = ((name.lastPathComponent as NSString).deletingPathExtension)
    let file = "\(stem)\(options.suffix).\(type)"
    let ownFolder = name.deletingLastPathComponent
    guard let outputFolder = options.outputFolder.map({ absolutePath($0) }) else {
      let folder = (media as NSString).deletingLastPathComponent
      let value = folder.isEmpty ? file : folder == "/" ? "/\(file)" : "\(folder)/\(file)"
      return Job(
        media: media, source: source, folder: ownFolder, file: file, value: value, rows: [row])
    }
    // Folders are kept, so that clips of one name stay apart.
    let inside = Self.relative(ownFolder, to: root).map { $0.isEmpty ? "" : "/\($0)" } ?? ownFolder
    let folder = outputFolder + (inside == "/" ? "" : inside)
    let place = "\(folder)/\(file)"
    return Job(
      media: media, source: source, folder: folder, file: file,
      value: Self.relative(place, to: root) ?? place,
      rows: [row])
  }

  /// A path below a folder without that; nil elsewhere.
  private static func relative(_ path: String, to folder: String) -> String? {
    if path == folder { return "" }
    let prefix = folder == "/" ? folder : folder + "/"
    return path.hasPrefix(prefix) ? String(path.dropFirst(prefix.count)) : nil
  }

  /// In a folder of media, what belongs together is told by the names alone.
  private func requireNames(_ dataset: DatasetFile) throws {
    guard dataset.columns.contains(Role.caption.name) else {
      throw PreprocessingError(
        .option, file: options.dataset,
        "is a folder in which no clip has its caption in a .txt file beside it; give the dataset file, or name it "
          + "with --output")
    }
    guard options.suffix == MediaFolder.referenceSuffix, options.outputFolder == nil else {
      throw PreprocessingError(
        .option, file: options.dataset,
        "is a folder of media, in which a clip's reference is the file beside it that ends in "
          + "\(MediaFolder.referenceSuffix); leave out --suffix and --output-dir, or give a dataset file"
      )
    }
  }

  private func checkOutput(datasetFolder: String) throws {
    if options.suffix.contains("/") || options.suffix.contains("\0") {
      throw PreprocessingError(
        .option, "--suffix: \"\(options.suffix)\" can't be part of a file's name")
    }
    guard let output = options.outputDataset else { return }
    let (from, to) = (
      (options.dataset as NSString).pathExtension, (output as NSString).pathExtension
    )
    guard from.lowercased() == to.lowercased() else {
      throw PreprocessingError(
        .option, file: output,
        "the dataset is .\(from) and is not converted; give the output that extension too")
    }
  }

  /// Paths that are relative to the dataset's folder would lead nowhere from another one.
  private func checkMove(datasetFolder: String) throws {
    guard let output = options.outputDataset,
      absolutePath((output as NSString).deletingLastPathComponent) != datasetFolder,
      let job = jobs.first(where: { !$0.media.hasPrefix("/") })
    else { return }
    throw PreprocessingError(
      .option, file: output,
      "lies in another folder than the dataset, whose paths (\(job.media)) are relative to its own; "
        + "write the output beside the dataset")
  }
}
