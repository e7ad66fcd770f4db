import ArgumentParser
import Datasets
import Foundation
import Media
import Support

/// `ltx reference`: parses, plans, runs, prints.
struct ReferenceCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reference",
    abstract:
      "Make the reference videos that an IC-LoRA is trained with, and write their column.",
    discussion: """
      For every clip in the dataset's media column (video, media_path, …), a reference is written \
      beside it: <name>_reference.mp4, or <name>_reference.png for an image. The column \
      reference_video of the dataset file is set, and the rest of the file stays unchanged. In a \
      folder of media, the name is enough. References have the frames of the clip at their times, \
      and no audio. A rerun makes only references that are missing, or whose clip or options have \
      changed.

      A command runs without a shell: it is split at spaces outside of quotes, and {input} and \
      {output} become the paths of the files. For pipes, write sh -c '… "$1" … "$2"' sh {input} \
      {output}.

      Exit status: 0 if every row has its reference, 1 if some have none, 2 if nothing was started.

      Example:
        ltx reference dataset.json --type canny
      """)

  /// The kinds of references, with the spellings that users are likely to type.
  enum Kind: String, CaseIterable, ExpressibleByArgument {
    case canny, blur, downscale, gray, command

    init?(argument: String) {
      let others: [String: Kind] = ["grey": .gray, "greyscale": .gray, "grayscale": .gray]
      guard let kind = Kind(rawValue: argument) ?? others[argument] else { return nil }
      self = kind
    }
  }

  @Argument(
    help: ArgumentHelp(
      """
      The dataset: .json, .jsonl, .csv, or a folder of media. If --output is the dataset, the \
      folder that its paths are relative to.
      """,
      valueName: "dataset"), completion: .file())
  var input: String

  @Option(
    help:
      """
      The kind of reference: canny edges, a blurred, smaller or gray video, or the output of a \
      command. Default: canny.
      """
  )
  var type: Kind?

  @Option(help: "The gradient up to which canny finds no edge. Default: 100.")
  var lowThreshold: Int?

  @Option(
    help:
      """
      The gradient above which canny finds an edge. Gradients between the thresholds are edges if \
      they touch one. Default: 200.
      """
  )
  var highThreshold: Int?

  @Option(help: "The sigma of blur, in pixels. Default: 8.")
  var blurSigma: Double?

  @Option(
    help:
      """
      The factor by which downscale divides width and height. Sizes are rounded to even numbers. \
      Default: 2.
      """
  )
  var downscaleFactor: Int?

  @Option(
    help: ArgumentHelp("A program to run for each clip.", valueName: "program {input} {output}"))
  var command: String?

  @Option(
    name: .shortAndLong,
    help: "The path of the dataset with its new column. Default: the dataset itself.")
  var output: String?

  @Option(
    help: "The folder of the references, with the subfolders of their clips.",
    completion: .directory)
  var outputDir: String?

  @Option(help: "The text between the clip's name and the extension.")
  var suffix = "_reference"

  @Option(help: "The column of the media files, if it is not found by its name.")
  var videoColumn: String?

  @Flag(
    name: [.long, .customLong("override")],
    help: "Make all references again, and replace files of unknown origin."
  )
  var overwrite = false

  @Option(help: "Accepted for compatibility with upstream's script; it has no effect.")
  var batchSize: Int?

  func run() throws {
    var locks = OutputLocks("ltx reference")
    defer { locks.release() }
    let plan = try checkingInput(.reference) {
      let (column, options) = (try column(), options())
      for folder in outputFolders(column, options) { try locks.lock(folder: folder) }
      return try DerivedColumnPlan(column, options)
    }
    for note in plan.skipped.notes() { printError("note: \(note)") }
    printEncoderNote()
    let progress = PhasedProgress()
    let summary = try working {
      defer { progress.finish() }
      return try DerivedColumnMaker(plan).run { clips, total, detail in
        progress.show("making references", clips, of: total, unit: "clips", detail)
      }
    }
    let notes = summary.notes.map { "note: \(SubjectTable.reference.message($0))" }
    for note in capped(notes, rest: { "\($0) more notes" }) { printError(note) }
    let failures = summary.failures.map { "error: \(SubjectTable.reference.message("\($0)"))" }
    for failure in capped(
      failures, rest: { "\($0) more errors; a rerun makes only what is missing" })
    {
      printError(failure)
    }
    print(
      "\(counted(plan.clipCount, "clip")): \(counted(summary.made, "reference")) made, \(summary.upToDate) up to date; "
        + "\(counted(summary.failures.count, "row")) failed")
    if !summary.failures.isEmpty { throw ExitCode(1) }
  }

  /// The folders that the dataset and the references are written to.
  private func outputFolders(
    _ column: ReferenceColumn, _ options: DerivedColumnOptions
  ) -> [String] {
    let dataset = URL(fileURLWithPath: options.outputDataset ?? options.dataset)
    return [(isFolder(dataset.path) ? dataset : dataset.deletingLastPathComponent()).path]
      + (column.outputFolder.map { [$0] } ?? [])
  }

  private func column() throws -> ReferenceColumn {
    var column = ReferenceColumn(try kind())
    column.outputFolder = outputDir
    column.suffix = suffix
    return column
  }

  private func options() -> DerivedColumnOptions {
    // Upstream's form: a folder of media, and the dataset file as the output.
    let isMediaRoot = isFolder(input) && output != nil
    var options = DerivedColumnOptions(dataset: isMediaRoot ? output ?? "" : input)
    options.mediaFolder = isMediaRoot ? input : nil
    options.outputDataset = isMediaRoot ? nil : output
    options.videoColumn = videoColumn
    options.overwrite = overwrite
    return options
  }

  private func kind() throws -> ReferenceKind {
    let kind = type ?? (command == nil ? .canny : .command)
    let given: [(String, Bool, Kind)] = [
      ("--low-threshold", lowThreshold != nil, .canny),
      ("--high-threshold", highThreshold != nil, .canny),
      ("--blur-sigma", blurSigma != nil, .blur),
      ("--downscale-factor", downscaleFactor != nil, .downscale),
      ("--command", command != nil, .command),
    ]
    if let stray = given.first(where: { $0.1 && $0.2 != kind }) {
      throw Issue(
        [.name(stray.0)], "has no effect with --type \(kind.rawValue)",
        suggestion: "Use --type \(stray.2.rawValue).")
    }
    switch kind {
    case .canny:
      let (low, high) = (
        lowThreshold ?? CannyEdges.defaultLow, highThreshold ?? CannyEdges.defaultHigh
      )
      guard 0 <= low, low <= high else {
        throw Issue(
          ["--low-threshold"],
          "must be between 0 and the high threshold (got thresholds \(low) and \(high))")
      }
      return .filter(.edges(CannyEdges(low: low, high: high)))
    case .blur:
      let sigma = blurSigma ?? 8
      guard GaussianBlur.sigmas.contains(sigma) else {
        throw Issue(
          ["--blur-sigma"],
          "must be between \(GaussianBlur.sigmas.lowerBound) and \(GaussianBlur.sigmas.upperBound) "
            + "(got \(sigma))")
      }
      return .filter(.blur(GaussianBlur(sigma: sigma)))
    case .downscale:
      let factor = downscaleFactor ?? 2
      guard (2...64).contains(factor) else {
        throw Issue(["--downscale-factor"], "must be between 2 and 64 (got \(factor))")
      }
      return .filter(.downscale(factor))
    case .gray: return .filter(.gray)
    case .command:
      guard let command else {
        throw Issue(
          ["--type"], "command needs a program",
          suggestion: "Add --command 'program {input} {output}'.")
      }
      return .command(try ClipCommand(command))
    }
  }
}

extension SubjectTable {
  /// The options of `ltx reference`, by the subjects of `Datasets`.
  fileprivate static let reference: SubjectTable = [
    ["suffix"]: "--suffix",
    ["command"]: "--command",
    ["overwrite"]: "--overwrite",
    ["output"]: "--output",
    ["columns", "video"]: "--video-column",
  ]
}
