import Foundation
import Media
import Support

/// Makes the values of a derived column, clip by clip, and writes the column.
///
/// A run that was killed can be resumed: the records show which values have been made.
public struct DerivedColumnMaker: Sendable {
  /// Called with the number of finished clips, the number of all clips, and the current activity.
  public typealias Progress = (_ clips: Int, _ total: Int, _ detail: String) -> Void

  /// The outcome for a clip.
  private enum Outcome {
    case made, upToDate, kept
  }

  private let plan: DerivedColumnPlan
  private let column: any DerivedColumn
  private let options: DerivedColumnOptions

  public init(_ plan: DerivedColumnPlan) {
    self.plan = plan
    column = plan.column
    options = plan.options
  }

  /// Makes the values. A clip that can't be used fails only its rows, whose columns stay unchanged.
  ///
  /// - Throws: `WritingError` if the dataset can't be written, `Issue` if it was changed after
  ///   planning.
  public func run(progress: Progress = { _, _, _ in }) throws -> DerivedColumnSummary {
    var summary = DerivedColumnSummary()
    summary.failures = plan.failures
    var text = plan.text
    var records: [String: DerivedRecords] = [:]
    for (index, job) in plan.jobs.enumerated() {
      progress(index, plan.jobs.count, "")
      func detail(_ words: String) {
        progress(
          index, plan.jobs.count, "\((job.clip.media as NSString).lastPathComponent) \(words)")
      }
      do {
        let outcome =
          try job.file.map { file in
            try makeFile(job, file, &text, &records, &summary.notes, detail)
          } ?? makeText(job, &text, &records, &summary.notes, detail)
        switch outcome {
        case .made: summary.made += 1
        case .upToDate: summary.upToDate += 1
        case .kept: summary.kept += 1
        }
      } catch {
        for row in job.rows {
          summary.failures.append(
            Issue(describing: error).prefixed(by: plan.place(ofRow: row)))
        }
      }
    }
    progress(plan.jobs.count, plan.jobs.count, "")
    summary.failures.sort { ($0.line ?? 0) < ($1.line ?? 0) }
    if let text { try write(text) }
    return summary
  }

  /// Writes the dataset. The dataset file itself is only replaced if it is still unchanged.
  private func write(_ text: DatasetText) throws {
    func place(_ path: String) -> String {
      URL(fileURLWithPath: path).resolvingSymlinksInPath().path
    }
    if place(options.outputDataset ?? options.dataset) == place(options.dataset) {
      if text.bytes == plan.text?.bytes { return }
      // A file that was removed counts as changed.
      guard FileManager.default.contents(atPath: options.dataset) == plan.original else {
        throw Issue(
          [.file(options.dataset)],
          "was changed while the \(column.noun)s were made, and is not written",
          suggestion:
            "Run the command again, which keeps the \(column.noun)s and writes their column.")
      }
    }
    try text.write(to: options.outputDataset)
  }

  private func set(_ value: String, rows: [Int], in text: inout DatasetText?) {
    for row in rows {
      text?.set(column.name, row: row, to: value)
      for name in column.formerNames { text?.remove(name, row: row) }
    }
  }

  /// Returns the inputs that a value would be made from now.
  private func origin(of clip: DerivedClip, seenFrom folder: String) throws -> DerivedRecords.Origin
  {
    guard let stamp = FileStamp(of: clip.source) else {
      throw MediaError(
        .notReadable, file: clip.media, "no such file",
        remedy: MissingFile.hint(clip.source) ?? "Check the path.")
    }
    return DerivedRecords.Origin(
      source: Self.relative(from: folder, to: clip.source), sourceStamp: stamp,
      madeBy: column.signature)
  }

  /// Returns the path of a file relative to a folder; both are absolute.
  private static func relative(from folder: String, to file: String) -> String {
    let (from, to) = (folder.split(separator: "/"), file.split(separator: "/"))
    let shared = zip(from, to).prefix { $0 == $1 }.count
    let up = [Substring](repeating: "..", count: from.count - shared)
    return (up + to[shared...]).joined(separator: "/")
  }

  // MARK: Texts

  private func makeText(
    _ job: DerivedColumnPlan.Job, _ text: inout DatasetText?,
    _ records: inout [String: DerivedRecords], _ notes: inout [String],
    _ progress: (String) -> Void
  ) throws -> Outcome {
    let clip = job.clip
    let origin = try origin(of: clip, seenFrom: plan.folder)
    var record =
      try records[plan.folder] ?? DerivedRecords(folder: plan.folder, name: column.recordsName)
    defer { records[plan.folder] = record }
    // Texts that were written or edited by hand are kept.
    let rows = job.rows.filter { row in
      options.overwrite || plan.values[row].map { record.hasMade($0, of: clip.media) } ?? true
    }
    guard !rows.isEmpty else { return .kept }
    let known = options.overwrite ? nil : record.text(of: clip.media, wanted: origin)
    let value = try known ?? column.make(clip, at: nil, progress: progress)
    guard let made = value.text else {
      throw Issue([.file(clip.media)], "got no \(column.noun)")
    }
    if known == nil { try record.add(clip.media, value, origin: origin) }
    notes += value.notes.map { "\(clip.media): \($0)" }
    set(made, rows: rows, in: &text)
    return known == nil ? .made : .upToDate
  }

  // MARK: Files

  private func makeFile(
    _ job: DerivedColumnPlan.Job, _ file: DerivedFile, _ text: inout DatasetText?,
    _ records: inout [String: DerivedRecords], _ notes: inout [String],
    _ progress: (String) -> Void
  ) throws -> Outcome {
    let clip = job.clip
    let origin = try origin(of: clip, seenFrom: file.folder)
    try makeFolder(file.folder)
    var record =
      try records[file.folder] ?? DerivedRecords(folder: file.folder, name: column.recordsName)
    defer { records[file.folder] = record }
    switch record.state(of: file.name, wanted: origin) {
    case .current where !options.overwrite:
      notes += record.notes(of: file.name).map { "\(clip.media): \($0)" }
      set(file.value, rows: job.rows, in: &text)
      return .upToDate
    case .foreign where !options.overwrite:
      throw Issue(
        [.file(file.value)], "exists and is not known to be made from \(clip.media)",
        suggestion: "Remove it, choose another suffix, or allow overwriting (`overwrite`).")
    default: break
    }
    let partial = try Self.partial(of: file)
    TemporaryFiles.add(partial)
    defer {
      unlink(partial)
      TemporaryFiles.remove(partial)
    }
    let value: DerivedValue
    do {
      value = try column.make(clip, at: partial, progress: progress)
    } catch let error as MediaError where error.file == partial {
      // The user doesn't know the temporary name.
      throw MediaError(error.kind, file: file.value, error.what, remedy: error.remedy)
    }
    notes += value.notes.map { "\(clip.media): \($0)" }
    guard let stamp = FileStamp(of: partial) else {
      throw MediaError(
        .writing, file: file.value, "vanished while it was written", remedy: "Try again.")
    }
    // The record is written first, so that a kill in between leaves a record without a file, not a
    // file of unknown origin.
    try record.add(file.name, stamp: stamp, origin: origin, notes: value.notes)
    guard rename(partial, file.path) == 0 else {
      throw MediaError(
        .writing, file: file.value, "can't be renamed (\(String(cString: strerror(errno))))",
        remedy: "Check the permissions of its folder.")
    }
    set(file.value, rows: job.rows, in: &text)
    return .made
  }

  /// Returns a temporary name that no other run uses, because a program that outlives its run may
  /// continue to write to its file. Leftovers of killed runs are removed.
  private static func partial(of file: DerivedFile) throws -> String {
    let name = file.name as NSString
    let (start, end) = (
      ".\(name.deletingPathExtension.prefix(60)).", ".partial.\(name.pathExtension)"
    )
    // The video writer derives the second pattern from the first.
    let patterns = [(start, end), ("." + start, end + ".partial")]
    for found in try FileManager.default.contentsOfDirectory(atPath: file.folder) {
      let isLeftover = patterns.contains { start, end in
        guard found.hasPrefix(start), found.hasSuffix(end), found.count > start.count + end.count
        else { return false }
        return found.dropFirst(start.count).dropLast(end.count)
          .allSatisfy { $0.isASCII && ($0.isNumber || $0.isLowercase) }
      }
      if isLeftover { unlink("\(file.folder)/\(found)") }
    }
    return "\(file.folder)/\(start)\(String(UInt64.random(in: .min ... .max), radix: 36))\(end)"
  }
}
