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
      "Turn clips, sounds and captions into the latents and text features that training reads.",
    discussion: """
      The dataset is a JSON list of objects, JSONL, CSV, or a folder of media with captions in .txt files beside them. \
      Columns are found by their names: video, audio, reference_video, reference_audio, video_mask, audio_mask, \
      caption; media paths are relative to the dataset. Each clip's first frames are brought to the resolution bucket \
      nearest to its aspect. The cache, .precomputed beside the dataset, holds a folder for each kind of file and \
      report.json. A later run encodes only what is missing or has changed. Several processes, started by torchrun or \
      srun, share the work.

      Exit status: 0 if all is cached that was asked for, 1 if something could not be, 2 if nothing was begun.
      """)

  @Argument(help: "The dataset: .json, .jsonl, .csv, or a folder.", completion: .file())
  var dataset: String

  @Option(
    help: ArgumentHelp(
      "Sizes to bring clips to, \"768x512x49\": multiples of 32, frames 8k + 1 in LTX-2. Quote several.",
      valueName: "WxHxF;WxHxF;…"))
  var resolutionBuckets: String?

  @OptionGroup var model: ModelArguments

  @Flag(
    name: [.customLong("text-encoder-8bit"), .customLong("load-text-encoder-in-8bit")],
    help:
      "Round the text encoder to int8 while it is loaded: half the memory. Text features change slightly."
  )
  var textEncoder8bit = false

  @OptionGroup(title: "Columns") var columns: ColumnOptions

  @OptionGroup(title: "What is made") var content: PreprocessingContentOptions

  @OptionGroup(title: "How clips are read") var reading: ClipReadingOptions

  @Option(
    help: "Where the cache goes; .precomputed beside the dataset if left out.",
    completion: .directory)
  var outputDir: String?

  @Option(help: "safetensors, or pt as the official trainer reads it.")
  var format: CacheFormat = .safetensors

  @Flag(help: "Encode everything anew, also what is cached and has not changed.")
  var overwrite = false

  @Flag(help: "Encode clips of more than 512 pixels a side in tiles, which takes less memory.")
  var vaeTiling = false

  @Option(help: "Clips of one size to encode together.")
  var batchSize = 1

  @Flag(
    help:
      "Decode what was cached, into decoded_… folders in the cache: what the model will see and hear."
  )
  var decode = false

  @Flag(
    help:
      "Do all as the reference's scripts do it, known faults included; docs/preprocessing.md lists them."
  )
  var compat = false

  @Option(
    help: "What models compute in and the cache holds: bfloat16, as the reference, or float32.")
  var dtype: ComputeDType = .bfloat16

  @OptionGroup var compute: ComputeOptions

  func validate() throws {
    guard batchSize >= 1 else { throw ValidationError("--batch-size must be 1 or more") }
  }

  func run() throws {
    compute.apply()
    let interruption = Interruption()
    var locks = OutputLocks("ltx preprocess")
    defer { locks.release() }
    let plan = try checkingInput(.preprocessing) {
      let options = try options()
      let share = OutputLock.Share(index: options.share.index, count: options.share.count)
      try locks.lock(
        folder: outputDir ?? PreprocessingPlan.defaultOutput(dataset), share: share)
      return try PreprocessingPlan(options)
    }
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
      printError("error: \(describe(error))")
      if case let error as TorchError = error, error.kind == .outOfMemory {
        printError(
          "memory ran out: try --vae-tiling, a smaller --batch-size or smaller buckets; a rerun goes on from here"
        )
      }
      throw ExitCode(
        progress.hasEncoded || (error as? PreprocessingError)?.kind == .writing ? 1 : 2)
    }
    show(report)
    if let status = interruption.status { throw ExitCode(status) }
    if decode { try decodeCache(report.outputFolder) }
    if !report.failures.isEmpty { throw ExitCode(1) }
  }

  /// What the model will see and hear: everything in the cache, in folders of their own there.
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
    for note in report.notes { printError("note: \(note)") }
    for (problems, word) in [(report.warnings, "warning"), (report.failures, "error")] {
      let lines = problems.map { "\(word): \($0)" }
      for line in capped(lines, rest: { "\($0) more \(word)s; see \(report.path)" }) {
        printError(line)
      }
    }
    if report.withoutAudio > 0 {
      printError(
        "note: \(counted(report.withoutAudio, "clip")) without sound, and so without audio latents")
    }
    if !report.table.isEmpty { print(report.table) }
    print(
      "\(counted(report.rows, "row")): \(report.upToDate) up to date, \(Set(report.failures.map { $0.sample ?? $0.line.map(String.init) ?? $0.reason }).count) "
        + "failed\(report.interruption == nil ? "" : ", the rest not done"); cached in \(report.outputFolder)"
    )
  }

  private func options() throws -> PreprocessingOptions {
    var options = PreprocessingOptions(
      dataset: dataset, buckets: try resolutionBuckets.map(ResolutionBucket.list) ?? [],
      models: model.files)
    options.textEncoder8bit = textEncoder8bit
    options.columns = columns.named
    options.outputFolder = outputDir
    options.format = format
    options.overwrite = overwrite
    options.vaeTiling = vaeTiling
    options.batchSize = batchSize
    options.isCompatible = compat
    options.dtype = dtype.dtype
    options.share = try ProcessShare()
    guard !decode || options.share == .whole else {
      throw Issue(
        ["decode"], "must be left to one process",
        suggestion: "Run `ltx decode` when all processes are done.")
    }
    options.device = try compute.device(for: options.share)
    try content.apply(to: &options)
    reading.apply(to: &options)
    return options
  }
}

extension CacheFormat: ExpressibleByArgument {}

/// Shows what preprocessing reports.
private final class PreprocessingProgress {
  private let progress = PhasedProgress()
  /// Whether the models are loaded, and the work has begun.
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
