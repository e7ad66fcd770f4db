import ArgumentParser
import Datasets
import Foundation
import Media
import Torch
import Training

/// `ltx preprocess`: parses, plans, runs, prints.
struct PreprocessCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "preprocess",
    abstract: "Turn clips and captions into the latents and text features that training reads.",
    discussion: """
      The dataset is a JSON list of objects, JSONL or CSV with a column for the media file (video, media_path, …) and \
      one for the caption; media paths are relative to the dataset file. Each clip's first frames are brought to the resolution \
      bucket nearest to its aspect. The cache, .precomputed beside the dataset, holds latents/ and conditions/, one \
      safetensors file a clip. A later run encodes only what is missing or has changed.

      Exit status: 0 if every clip is cached, 1 if some could not be, 2 if nothing was begun.
      """)

  @Argument(help: "The dataset: .json, .jsonl or .csv.", completion: .file())
  var dataset: String

  @Option(
    help: ArgumentHelp(
      "Sizes to bring clips to, \"768x512x49\": multiples of 32, frames 8k + 1 in LTX-2. Quote several.",
      valueName: "WxHxF;WxHxF;…"))
  var resolutionBuckets: String

  @OptionGroup var model: ModelArguments

  @Flag(
    name: .customLong("text-encoder-8bit"),
    help: "Round the text encoder to int8 while it is loaded: half the memory. Text features change slightly."
  )
  var textEncoder8bit = false

  @Option(help: "The column of the media files, if it is not found by its name.")
  var videoColumn: String?

  @Option(help: "The column of the captions, if it is not found by its name.")
  var captionColumn: String?

  @Option(help: "A word to put before each caption, which the LoRA will listen to.")
  var loraTrigger: String?

  @Option(help: "Where the cache goes; .precomputed beside the dataset if left out.", completion: .directory)
  var outputDir: String?

  @Flag(help: "Encode everything anew, also what is cached and has not changed.")
  var overwrite = false

  @Flag(help: "Encode clips of more than 512 pixels a side in tiles, which takes less memory.")
  var vaeTiling = false

  @Flag(help: "Leave the clips' sound out. This version always does.")
  var skipAudio = false

  @Option(help: "What models compute in and the cache holds: bfloat16, as the reference, or float32.")
  var dtype: ComputeDType = .bfloat16

  @OptionGroup var compute: ComputeOptions

  func run() throws {
    compute.apply()
    let plan = try checkingInput { try PreprocessingPlan(options()) }
    let progress = PreprocessingProgress()
    let summary: PreprocessingSummary
    do {
      defer { progress.finish() }
      summary = try Preprocessor(plan, report: progress.show).run()
    } catch {
      printError("error: \(error)")
      if case let error as TorchError = error, error.kind == .outOfMemory {
        printError("memory ran out: try --vae-tiling or smaller buckets; a rerun goes on from here")
      }
      throw ExitCode(progress.hasEncoded || (error as? PreprocessingError)?.kind == .writing ? 1 : 2)
    }
    for failure in summary.failures { printError("error: \(failure)") }
    print(
      "\(summary.samples) clips: \(summary.clipsEncoded) clips and \(summary.captionsEncoded) captions encoded, "
        + "\(summary.upToDate) up to date, \(summary.failures.count) failed; cached in \(summary.outputFolder)"
    )
    if !summary.failures.isEmpty { throw ExitCode(1) }
  }

  private func options() throws -> PreprocessingOptions {
    var options = PreprocessingOptions(
      dataset: dataset, buckets: try ResolutionBucket.list(resolutionBuckets), models: model.files)
    options.textEncoder8bit = textEncoder8bit
    options.videoColumn = videoColumn
    options.captionColumn = captionColumn
    options.loraTrigger = loraTrigger
    options.outputFolder = outputDir
    options.overwrite = overwrite
    options.vaeTiling = vaeTiling
    options.skipAudio = skipAudio
    options.dtype = dtype.dtype
    options.device = compute.device
    return options
  }
}

/// Shows what preprocessing reports.
private final class PreprocessingProgress {
  private let progress = PhasedProgress()
  /// Whether any sample has been finished.
  private(set) var hasEncoded = false

  func show(_ event: PreprocessingEvent) {
    switch event {
    case .note(let text): say("note: \(text)")
    case .loading(.captions, let total): say("loading the text encoder for \(total) captions")
    case .loading(.clips, let total): say("loading the video VAE for \(total) clips")
    case .began(let phase, let total): advance(phase, 0, total)
    case .advanced(let phase, let done, let total):
      hasEncoded = true
      advance(phase, done, total)
    }
  }

  func finish() { progress.finish() }

  private func say(_ line: String) {
    progress.finish()
    printError(line)
  }

  private func advance(_ phase: PreprocessingEvent.Phase, _ done: Int, _ total: Int) {
    let unit = phase == .captions ? "captions" : "clips"
    progress.show("encoding \(unit)", done, of: total, unit: unit)
  }
}
