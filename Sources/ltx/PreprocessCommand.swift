import ArgumentParser
import Datasets
import Foundation
import Media
import Support
import Torch

/// `ltx preprocess`: parses, plans, runs, prints.
struct PreprocessCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "preprocess",
    abstract:
      "Encode clips, audio and captions to the latents and text features that training reads.",
    discussion: """
      The dataset is a JSON list of objects, JSONL, CSV, or a folder of media with captions in \
      .txt files beside them. Columns are found by their names: video, audio, reference_video, \
      reference_audio, video_mask, audio_mask, caption, repeats. Media paths are relative to the \
      dataset. The first frames of each clip are scaled and cropped to the resolution bucket with \
      the nearest aspect ratio. The cache, .precomputed beside the dataset, has a folder for each \
      kind of file, and report.json. A rerun encodes only files that are missing or have changed. \
      Several processes that torchrun or srun starts share the work.

      Exit status: 0 if everything requested is cached, 1 if something could not be cached, 2 if \
      nothing was started.

      Example:
        ltx preprocess dataset.json --resolution-buckets "768x512x49;512x768x49" \
        --model-path ltx-2.safetensors --text-encoder-path gemma-3-12b
      """)

  @Argument(help: "The dataset: .json, .jsonl, .csv, or a folder.", completion: .file())
  var dataset: String

  @Option(
    help: ArgumentHelp(
      """
      Sizes that clips are brought to, such as "768x512x49": multiples of 32, and 8k + 1 frames in \
      LTX-2. Quote several.
      """,
      valueName: "WxHxF;WxHxF;…"))
  var resolutionBuckets: String?

  @OptionGroup var model: ModelArguments

  @Flag(
    name: [.customLong("text-encoder-8bit"), .customLong("load-text-encoder-in-8bit")],
    help:
      "Load the text encoder in int8, in half the memory. Text features change slightly."
  )
  var textEncoder8bit = false

  @OptionGroup var memory: MemoryOptions

  @OptionGroup(title: "Columns") var columns: ColumnOptions

  @OptionGroup(title: "Content") var content: PreprocessingContentOptions

  @OptionGroup(title: "Reading clips") var reading: ClipReadingOptions

  @Option(
    help: "The folder of the cache. Default: .precomputed beside the dataset.",
    completion: .directory)
  var outputDir: String?

  @Option(help: "The format of the files: safetensors, or pt for the official trainer.")
  var format: CacheFormat = .safetensors

  @Flag(help: "Encode everything again, including files that are up to date.")
  var overwrite = false

  @Flag(help: "Encode clips of more than 512 pixels per side in tiles, which takes less memory.")
  var vaeTiling = false

  @Option(help: "The number of clips of one size to encode together.")
  var batchSize = 1

  @Flag(
    help:
      "Decode the cache into decoded_… folders inside it: what the model will see and hear."
  )
  var decode = false

  @Flag(
    help:
      "Follow upstream's scripts, including their known faults, which docs/preprocessing.md lists."
  )
  var compat = false

  @Option(
    help: """
      The dtype of the models and the cache: bfloat16, like upstream, or float32, which is faster on \
      CPUs without bfloat16 units but takes twice the memory.
      """)
  var dtype: ComputeDType = .bfloat16

  @OptionGroup var compute: ComputeOptions

  func validate() throws {
    guard batchSize >= 1 else {
      throw ValidationError("--batch-size: must be 1 or more (got \(batchSize))")
    }
  }

  func run() throws {
    try compute.apply()
    try compute.require(dtype)
    let interruption = Interruption()
    var locks = OutputLocks("ltx preprocess")
    defer { locks.release() }
    let plan = try checkingInput(.preprocessing) {
      let options = try options()
      try locks.lock(
        folder: outputDir ?? PreprocessingPlan.defaultOutput(dataset), share: options.share)
      return try PreprocessingPlan(options)
    }
    for line in plan.memory.table { printError(line) }
    interruption.waitsForCaller()
    let progress = PreprocessingProgress()
    let preprocessor = Preprocessor(
      plan, notify: progress.show, shouldStop: { interruption.status != nil })
    let report: PreprocessingReport
    do {
      defer { progress.finish() }
      report = try preprocessor.run()
    } catch {
      show(preprocessor.currentReport)
      printError("error: \(SubjectTable.preprocessing.message(of: error))")
      if case let error as TorchError = error, error.kind == .outOfMemory {
        printError(
          "memory ran out. Use --vae-tiling, a smaller --batch-size or smaller buckets; a rerun "
            + "resumes here"
        )
      }
      throw ExitCode(
        progress.hasEncoded || Preprocessor.isWritingFailure(error) ? 1 : 2)
    }
    show(report)
    if let status = interruption.status { throw ExitCode(status) }
    if decode { try decodeCache(report.outputFolder) }
    if !report.failures.isEmpty { throw ExitCode(1) }
  }

  /// Decodes everything in the cache into folders inside it.
  private func decodeCache(_ folder: String) throws {
    var options = CacheDecodingOptions()
    options.device = compute.device
    options.dtype = dtype.dtype
    options.vaeTiling = vaeTiling
    options.withAudio = true
    let (decoder, jobs) = try working {
      let decoder = try CacheDecoder(models: model.files, options: options)
      return (decoder, try decoder.plan(folder, into: folder))
    }
    try decoder.runShowing(jobs, into: folder)
  }

  private func show(_ report: PreprocessingReport) {
    let names = SubjectTable.preprocessing
    for note in report.notes { printError("note: \(names.message(note))") }
    for (problems, word) in [(report.warnings, "warning"), (report.failures, "error")] {
      let lines = problems.map { "\(word): \(names.message("\($0)"))" }
      for line in capped(lines, rest: { "\($0) more \(word)s; see \(report.path)" }) {
        printError(line)
      }
    }
    if report.withoutAudio > 0 {
      printError(
        "note: \(counted(report.withoutAudio, "clip")) without audio, and so without audio latents")
    }
    if !report.table.isEmpty { print(report.table) }
    print(
      "\(counted(report.rows, "row")): \(report.upToDate) up to date, \(Set(report.failures.map { $0.sample ?? $0.line.map(String.init) ?? $0.reason }).count) "
        + "failed\(report.interruption == nil ? "" : ", the rest not processed"); cached in \(report.outputFolder)"
    )
  }

  private func options() throws -> PreprocessingOptions {
    var options = PreprocessingOptions(
      dataset: dataset, buckets: try resolutionBuckets.map(ResolutionBucket.list) ?? [],
      models: model.files)
    options.textEncoder8bit = textEncoder8bit
    options.memory = memory.settings
    options.columns = columns.named
    options.outputFolder = outputDir
    options.format = format
    options.overwrite = overwrite
    options.vaeTiling = vaeTiling
    options.batchSize = batchSize
    options.isCompatible = compat
    options.dtype = dtype.dtype
    options.share = try WorkShare()
    guard !decode || options.share == .whole else {
      throw Issue(
        ["decode"], "must be left to one process",
        suggestion: "Run `ltx decode` when all processes are done.")
    }
    options.device = try compute.device(of: ProcessRanks() ?? .single)
    try content.apply(to: &options)
    reading.apply(to: &options)
    return options
  }
}

extension CacheFormat: ExpressibleByArgument {}

/// Shows the progress of preprocessing.
private final class PreprocessingProgress {
  private let progress = PhasedProgress()
  /// Whether the models are loaded, and encoding has started.
  private(set) var hasEncoded = false

  func show(_ event: PreprocessingEvent) {
    switch event {
    case .loading(.captions, let total):
      say("loading the text encoder for \(counted(total, "caption"))")
    case .loading(.media, let total): say("loading the VAEs for \(counted(total, "sample"))")
    case .advanced(let phase, let done, let total):
      hasEncoded = true
      let unit = phase == .captions ? "captions" : "samples"
      progress.show("encoding \(unit)", done, of: total, unit: unit)
    }
  }

  func finish() { progress.finish() }

  private func say(_ line: String) {
    progress.finish()
    printError(line)
  }
}
