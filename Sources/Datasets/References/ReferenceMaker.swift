import Foundation
import Media

/// What came of `ReferenceMaker`.
public struct ReferenceSummary: Equatable, Sendable {
  /// Clips whose reference was made in this run.
  public var made = 0
  /// Clips whose reference was there, made from the same source by the same options.
  public var upToDate = 0
  /// Rows without a reference.
  public var failures: [PreprocessingError] = []
  /// What else is to be told, one sentence each.
  public var notes: [String] = []
}

/// Makes the references of a dataset, one clip after the other, and writes their column.
public struct ReferenceMaker: Sendable {
  /// Clips that are done, how many there are, and a clip's frame.
  public typealias Progress = (_ clips: Int, _ total: Int, _ detail: String) -> Void

  private let plan: ReferencePlan
  private let options: ReferenceOptions

  public init(_ plan: ReferencePlan) {
    self.plan = plan
    options = plan.options
  }

  /// A clip that can't be used fails its rows only; their columns stay as they are.
  ///
  /// - Throws: `PreprocessingError` if the dataset can't be written.
  public func run(progress: Progress = { _, _, _ in }) throws -> ReferenceSummary {
    var summary = ReferenceSummary()
    summary.failures = plan.failures
    var text = plan.text
    var records: [String: ReferenceRecords] = [:]
    for (index, job) in plan.jobs.enumerated() {
      progress(index, plan.jobs.count, "")
      do {
        let made = try make(job, &records, &summary.notes) { frame in
          progress(index, plan.jobs.count, "\((job.media as NSString).lastPathComponent) frame \(frame)")
        }
        if made { summary.made += 1 } else { summary.upToDate += 1 }
        for row in job.rows {
          text.set(ReferencePlan.column, row: row, to: job.value)
          text.remove(ReferencePlan.formerColumn, row: row)
        }
      } catch {
        for row in job.rows {
          summary.failures.append(
            PreprocessingError(.media, file: options.dataset, line: plan.lines[row], "\(error)"))
        }
      }
    }
    progress(plan.jobs.count, plan.jobs.count, "")
    summary.failures.sort { ($0.line ?? 0) < ($1.line ?? 0) }
    try text.write(to: options.outputDataset)
    return summary
  }

  /// - Returns: whether there was something to do.
  private func make(
    _ job: ReferencePlan.Job, _ records: inout [String: ReferenceRecords], _ notes: inout [String],
    _ progress: (Int) -> Void
  ) throws -> Bool {
    guard let sourceStamp = FileStamp(of: job.source) else {
      throw MediaError(.notReadable, file: job.media, "no such file", remedy: "Check the path.")
    }
    let origin = ReferenceRecords.Origin(
      source: Self.path(from: job.folder, to: job.source), sourceStamp: sourceStamp,
      madeBy: options.kind.signature)
    try makeFolder(job.folder)
    var record = try records[job.folder] ?? ReferenceRecords(folder: job.folder)
    defer { records[job.folder] = record }
    switch record.state(of: job.file, in: job.folder, wanted: origin) {
    case .current where !options.overwrite: return false
    case .foreign where !options.overwrite:
      throw PreprocessingError(
        .media, file: job.value,
        "is there already and not known to be made from \(job.media); "
          + "remove it, give another --suffix, or replace it with --overwrite")
    default: break
    }
    let partial =
      "\(job.folder)/.\((job.file as NSString).deletingPathExtension).partial"
      + ".\((job.file as NSString).pathExtension)"
    unlink(partial)
    defer { unlink(partial) }
    try write(job, to: partial, &notes, progress)
    guard let stamp = FileStamp(of: partial) else {
      throw MediaError(.writing, file: job.value, "vanished while it was written", remedy: "Try again.")
    }
    // The record comes first: a kill in between leaves a line that fits no file, not a file of unknown origin.
    try record.add(job.file, stamp: stamp, origin: origin)
    guard rename(partial, "\(job.folder)/\(job.file)") == 0 else {
      throw MediaError(
        .writing, file: job.value, "can't be given its name (\(String(cString: strerror(errno))))",
        remedy: "Check the rights of its folder.")
    }
    return true
  }

  private func write(
    _ job: ReferencePlan.Job, to partial: String, _ notes: inout [String], _ progress: (Int) -> Void
  ) throws {
    switch options.kind {
    case .filter(let filter):
      let result = try FilteredClip().write(job.source, to: partial, by: filter, progress: progress)
      if let damage = result.ending.damage {
        notes.append("\(job.media): \(damage); its reference holds what could be decoded")
      }
      notes += result.notes.map { "\(job.media): \($0)" }
    case .command(let command):
      // A source that is no clip is told by our own words, not by the program's.
      let source = try VideoReader(path: job.source)
      let complaint: String?
      do {
        complaint = try command.run(input: job.source, output: partial)
      } catch let failure as ClipCommandFailure {
        throw PreprocessingError(.media, file: job.media, failure.description)
      }
      let made = try checkedOutput(of: command, complaint, job, partial)
      if case (.declared(let from), .declared(let to)) = (source.frameCount, made.frameCount), from != to {
        notes.append("\(job.media): has \(from) frames, but its reference \(to)")
      }
    }
  }

  private func checkedOutput(
    of command: ClipCommand, _ complaint: String?, _ job: ReferencePlan.Job, _ path: String
  ) throws -> VideoReader {
    guard let stamp = FileStamp(of: path), stamp.bytes > 0 else {
      throw PreprocessingError(
        .media, file: job.media,
        "\(command.words[0]) ended well but wrote nothing to {output}" + (complaint.map { ": \($0)" } ?? ""))
    }
    do {
      let reader = try VideoReader(path: path)
      _ = try reader.next()
      return reader
    } catch let error as MediaError {
      throw PreprocessingError(
        .media, file: job.media, "what \(command.words[0]) wrote is no video or picture: \(error.what)")
    }
  }

  private func makeFolder(_ folder: String) throws {
    do {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    } catch {
      throw MediaError(
        .writing, file: folder, "no folder can be made here (\(error.localizedDescription))",
        remedy: "Choose another --output-dir.")
    }
  }

  /// How one gets from a folder to a file; both absolute.
  private static func path(from folder: String, to file: String) -> String {
    let (from, to) = (folder.split(separator: "/"), file.split(separator: "/"))
    let shared = zip(from, to).prefix { $0 == $1 }.count
    let up = [Substring](repeating: "..", count: from.count - shared)
    return (up + to[shared...]).joined(separator: "/")
  }
}
