import ArgumentParser
import Captions
import Datasets
import Foundation
import Media
import Support
import Torch

/// `ltx caption`: parses, plans, connects, runs, prints.
struct CaptionCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "caption",
    abstract: "Write a detailed caption for each clip with a model that sees and hears.",
    discussion: """
      INPUT is a folder of videos, images and audio, one such file, or a dataset file that lists \
      clips. The captions go to a JSON list of objects, JSONL, CSV, or a pair of text files, by the \
      extension of --output; paths are relative to that file. It is saved after each clip, and a \
      rerun captions only what is missing. Captions that exist are kept, and only --override \
      replaces them, after a copy of the file has been made.

      The model is a folder with Qwen2.5-Omni or Qwen3-Omni (--captioner-model), a server with \
      OpenAI's API (--vllm-url), or Gemini. Keys are read from OPENAI_API_KEY, GEMINI_API_KEY or \
      GOOGLE_API_KEY. With --review, INPUT is a dataset whose captions are shown on a local web \
      page, for reading and correcting them beside the clips. Several processes that torchrun or \
      srun starts share the clips.

      Exit status: 0 if every clip has a caption, 1 if some have none, 2 if nothing was started.

      Example:
        ltx caption clips --output clips/dataset.json --captioner-model Qwen2.5-Omni-7B
      """)

  @Argument(
    help: "The folder of the clips, a file, or a dataset file (.json, .jsonl, .csv).",
    completion: .file())
  var input: String

  @Option(
    name: .shortAndLong,
    help: ArgumentHelp(
      """
      The file of captions: .json, .jsonl, .csv or .txt. Default: dataset.json in the folder, \
      CLIP.dataset.json beside a file, or the dataset file itself.
      """,
      valueName: "file"),
    completion: .file())
  var output: String?

  @OptionGroup(title: "Model") var model: CaptionModelOptions

  @OptionGroup(title: "Clips") var clips: CaptionClipOptions

  @Flag(help: "Replace captions that exist. The file is copied first.")
  var override = false

  @Option(
    name: [.customShort("w"), .long],
    help: ArgumentHelp(
      "The number of requests to a server at the same time, 1 to 64.", valueName: "n"))
  var numWorkers = 1

  @Option(help: "The column of the clips, if it is not found by its name.")
  var videoColumn: String?

  @Option(help: "The column of the captions, if it is not found by its name.")
  var captionColumn: String?

  @Flag(help: "Show the captions of the dataset INPUT on a local web page, to correct them.")
  var review = false

  @Option(help: "With --review: the port of the page. 0 is any free one.")
  var port = 0

  func validate() throws {
    guard (1...64).contains(numWorkers) else {
      throw ValidationError("--num-workers: must be between 1 and 64 (got \(numWorkers))")
    }
    guard (0...65535).contains(port) else {
      throw ValidationError("--port: must be between 0 and 65535 (got \(port))")
    }
    guard review || port == 0 else { throw ValidationError("--port: needs --review") }
  }

  private var columns: [Role: String] {
    [.video: videoColumn, .caption: captionColumn].compactMapValues { $0 }
  }

  func run() throws {
    model.hideKey()
    if review { return try reviewCaptions(input, columns: columns, port: port) }
    var locks = OutputLocks("ltx caption")
    defer { locks.release() }
    let plan = try checkingInput(.captions) {
      try model.check(workers: numWorkers)
      let plan = try CaptionPlan(options())
      // Two runs would do the same work twice. The file itself is locked for each change.
      try locks.lock(file: "\(plan.output).captioning\(plan.options.share.suffix)")
      return plan
    }
    for note in plan.skipped.notes() { printError("note: \(note)") }
    guard !plan.clips.isEmpty else {
      print("\(counted(plan.upToDate, "clip")): all have captions in \(plan.output)")
      return
    }
    let captioner = try checkingInput(.captions) { try model.captioner() }
    printError("captioning \(counted(plan.clips.count, "clip")) with \(captioner.summary)")
    let summary = try caption(plan, captioner)
    try report(summary, plan)
  }

  private func options() throws -> CaptionOptions {
    var options = CaptionOptions(input: input)
    options.output = output
    options.extensions = clips.extensionSet
    options.isRecursive = clips.recursive
    options.replaces = override
    options.columns = columns
    options.share = try WorkShare()
    return options
  }

  private func caption(
    _ plan: CaptionPlan, _ captioner: any Captioner
  ) throws -> CaptionSummary {
    let run = CaptionRun(
      plan, captioner, instructions: CaptionInstructions(custom: clips.instruction),
      workers: numWorkers)
    let progress = PhasedProgress()
    defer { progress.finish() }
    return try working(.captions) {
      try run.run { state in
        let tokens = state.tokens.map { " (\($0) tokens)" } ?? ""
        progress.show(
          "captioning", state.done, of: state.total, unit: "clips", state.clip + tokens)
      }
    }
  }

  private func report(_ summary: CaptionSummary, _ plan: CaptionPlan) throws {
    let names = SubjectTable.captions
    if let backup = summary.backup {
      printError("note: the captions before this run are in \(backup)")
    }
    for note in capped(summary.notes, rest: { "\($0) more notes" }) { printError("note: \(note)") }
    for (issues, word) in [(summary.warnings, "warning"), (summary.failures, "error")] {
      let lines = issues.map { "\(word): \(names.describe($0))" }
      for line in capped(lines, rest: { "\($0) more \(word)s" }) { printError(line) }
    }
    if let reason = summary.interruption {
      printError("error: \(names.describe(reason))")
      printError("the run ended early; a rerun captions the rest")
    }
    let done = summary.captioned + summary.kept + summary.failures.count
    let rest = plan.clips.count - done
    print(
      "\(counted(plan.upToDate + plan.clips.count, "clip")): \(summary.captioned) captioned, "
        + "\(plan.upToDate + summary.kept) up to date, \(summary.failures.count) failed"
        + (rest > 0 ? ", \(rest) not started" : "") + "; captions in \(plan.output)")
    let hasStarted = summary.captioned + summary.kept + summary.failures.count > 0
    if summary.interruption != nil { throw ExitCode(hasStarted ? 1 : 2) }
    if !summary.failures.isEmpty { throw ExitCode(1) }
  }
}

extension SubjectTable {
  /// The options of `ltx caption`, by the subjects of `Captions`.
  static let captions: SubjectTable = [
    ["output"]: "--output",
    ["server"]: "--vllm-url",
    ["model"]: "--vllm-model",
    ["key"]: "--api-key",
    ["timeout"]: "--timeout",
    ["maxTokens"]: "--max-tokens",
    ["captionerModel"]: "--captioner-model",
    ["columns", "video"]: "--video-column",
    ["columns", "caption"]: "--caption-column",
  ]
}
