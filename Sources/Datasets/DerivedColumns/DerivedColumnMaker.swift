import Foundation
import Media
import Support

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
  /// - Throws: `PreprocessingError` if the dataset can't be written, or has been changed since it
  ///   was planned.
  public func run(progress: Progress = { _, _, _ in }) throws -> ReferenceSummary {
    var summary = ReferenceSummary()
    summary.failures = plan.failures
    var text = plan.text
    var records: [String: ReferenceRecords] = [:]
    for (index, job) in plan.jobs.enumerated() {
      progress(index, plan.jobs.count, "")
      do {
        let made = try make(job, &records, &summary.notes) { frame in
          progress(
            index, plan.jobs.count, "\((job.media as NSString).lastPathComponent) frame \(frame)")
        }
        if made { summary.made += 1 } else { summary.upToDate += 1 }
        for row in job.rows {
          text?.set(ReferencePlan.column, row: row, to: job.value)
          text?.remove(ReferencePlan.formerColumn, row: row)
        }
      } catch {
        for row in job.rows {
          summary.failures.append(
            PreprocessingError(
              .media, file: options.dataset, line: plan.lines[row], describe(error)))
        }
      }
    }
    progress(plan.jobs.count, plan.jobs.count, "")
    summary.failures.sort { ($0.line ?? 0) < ($1.line ?? 0) }
    if let text { try write(text) }
    return summary
  }

  /// Writes the dataset; back to its place only if nobody has changed it in the meantime.
  private func write(_ text: DatasetText) throws {
    func place(_ path: String) -> String {
      URL(fileURLWithPath: path).resolvingSymlinksInPath().path
    }
    if place(options.outputDataset ?? options.dataset) == place(options.dataset) {
      if text.bytes == plan.text?.bytes { return }
      // A file that is gone has changed too.
      guard FileManager.default.contents(atPath: options.dataset) == plan.original else {
        throw PreprocessingError(
          .writing, file: options.dataset,
          "was changed while the references were made, and is left as it is; "
            + "run the command again, which keeps the references and writes their column")
      }
    }
    try text.write(to: options.outputDataset)
  }

  /// - Returns: whether there was something to do.
  private func make(
    _ job: ReferencePlan.Job, _ records: inout [String: ReferenceRecords], _ notes: inout [String],
    _ progress: (Int) -> Void
  ) throws -> Bool {
    guard let sourceStamp = FileStamp(of: job.source) else {
      throw MediaError(
        .notReadable, file: job.media, "no such file",
        remedy: MissingFile.hint(job.source) ?? "Check the path.")
    }
    let origin = ReferenceRecords.Origin(
      source: OutputPath.relative(from: job.folder, to: job.source), sourceStamp: sourceStamp,
      madeBy: options.kind.signature)
    try OutputPath.makeFolder(job.folder)
    var record = try records[job.folder] ?? ReferenceRecords(folder: job.folder)
    defer { records[job.folder] = record }
    switch record.state(of: job.file, in: job.folder, wanted: origin) {
    case .current where !options.overwrite:
      notes += record.notes(of: job.file, in: job.folder).map { "\(job.media): \($0)" }
      return false
    case .foreign where !options.overwrite:
      throw PreprocessingError(
        .media, file: job.value,
        "is there already and not known to be made from \(job.media); "
          + "remove it, give another --suffix, or replace it with --overwrite")
    default: break
    }
    let partial = try Self.partial(of: job)
    TemporaryFiles.add(partial)
    defer {
      unlink(partial)
      TemporaryFiles.remove(partial)
    }
    let own: [String]
    do {
      own = try write(job, to: partial, progress)
    } catch let error as MediaError where error.file == partial {
      // Its name means nothing to the user.
      throw MediaError(error.kind, file: job.value, error.what, remedy: error.remedy)
    }
    notes += own.map { "\(job.media): \($0)" }
    guard let stamp = FileStamp(of: partial) else {
      throw MediaError(
        .writing, file: job.value, "vanished while it was written", remedy: "Try again.")
    }
    // The record comes first: a kill in between leaves a line that fits no file, not a file of
    // unknown origin.
    try record.add(job.file, stamp: stamp, origin: origin, notes: own)
    guard rename(partial, "\(job.folder)/\(job.file)") == 0 else {
      throw MediaError(
        .writing, file: job.value, "can't be given its name (\(String(cString: strerror(errno))))",
        remedy: "Check the rights of its folder.")
    }
    return true
  }

  /// A name that no other run has: a program that outlives its run may go on writing to the name
  /// that it was given. What killed runs left behind is removed.
  private static func partial(of job: ReferencePlan.Job) throws -> String {
    let name = job.file as NSString
    let (start, end) = (
      ".\(name.deletingPathExtension.prefix(60)).", ".partial.\(name.pathExtension)"
    )
    // The second is the video writer's, of the first.
    let patterns = [(start, end), ("." + start, end + ".partial")]
    for file in try FileManager.default.contentsOfDirectory(atPath: job.folder) {
      let isLeftover = patterns.contains { start, end in
        guard file.hasPrefix(start), file.hasSuffix(end), file.count > start.count + end.count
        else {
          return false
        }
        return file.dropFirst(start.count).dropLast(end.count)
          .allSatisfy { $0.isASCII && ($0.isNumber || $0.isLowercase) }
      }
      if isLeftover { unlink("\(job.folder)/\(file)") }
    }
    return "\(job.folder)/\(start)\(String(UInt64.random(in: .min ... .max), radix: 36))\(end)"
  }

  /// - Returns: what is to be told of the clip.
  private func write(
    _ job: ReferencePlan.Job, to partial: String, _ progress: (Int) -> Void
  ) throws -> [String] {
    switch options.kind {
    case .filter(let filter):
      let result = try FilteredClip().write(job.source, to: partial, by: filter, progress: progress)
      let damage = result.ending.damage.map { "\($0); its reference holds what could be decoded" }
      return (damage.map { [$0] } ?? []) + result.notes
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
      if case (.declared(let from), .declared(let to)) = (source.frameCount, made.frameCount),
        from != to
      {
        return ["has \(from) frames, but its reference \(to)"]
      }
      return []
    }
  }

  private func checkedOutput(
    of command: ClipCommand, _ complaint: String?, _ job: ReferencePlan.Job, _ path: String
  ) throws -> VideoReader {
    guard let stamp = FileStamp(of: path), stamp.bytes > 0 else {
      throw PreprocessingError(
        .media, file: job.media,
        "\(command.words[0]) ended well but wrote nothing to {output}"
          + (complaint.map { ": \($0)" } ?? ""))
    }
    do {
      let reader = try VideoReader(path: path)
      _ = try reader.next()
      return reader
    } catch let error as MediaError {
      throw PreprocessingError(
        .media, file: job.media,
        "what \(command.words[0]) wrote is no video or picture: \(error.what)")
    }
  }
}
