import ArgumentParser
import Datasets
import LTX
import Media
import Support
import TensorFiles
import Torch

/// `ltx decode`: parses, plans, runs, prints.
struct DecodeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "decode",
    abstract:
      "Turn cached latents back into videos, pictures and sounds, to see what training sees.",
    discussion: """
      LATENTS is a folder of a cache such as .precomputed/latents, a whole cache, or one file. Video latents become MP4 \
      (PNG for a single frame), audio latents WAV, masks grey MP4 or PNG. A whole cache is decoded into decoded_videos, \
      decoded_audio, decoded_reference_videos and so on below OUTPUT.

      Exit status: 0 if every file is decoded, 1 if some could not be, which are listed, 2 if nothing was begun.
      """)

  @Argument(
    help: ArgumentHelp("A folder of a cache, a cache, or one of its files.", valueName: "latents"),
    completion: .directory)
  var latents: String

  @Argument(help: "The folder for what is decoded; made if need be.", completion: .directory)
  var output: String

  @OptionGroup var model: CheckpointArguments

  @Flag(
    inversion: .prefixedNo,
    help: "Decode in tiles of 512 pixels and 128 frames, which takes less memory.")
  var vaeTiling = true

  @Option(help: "Of the noise that some decoders add.")
  var seed: UInt64 = 0

  @Flag(
    help:
      "Put each sample's sound into its video; for a folder of latents, also write WAVs into decoded_audio beside OUTPUT."
  )
  var withAudio = false

  @Option(
    help: ArgumentHelp(
      "Where that sound lies; audio_latents beside the latents if left out.", valueName: "folder"),
    completion: .directory)
  var audioLatentsDir: String?

  @Option(help: "What the VAEs compute in: bfloat16, as the reference, or float32.")
  var dtype: ComputeDType = .bfloat16

  @OptionGroup var compute: ComputeOptions

  func validate() throws {
    if model.files() == nil {
      throw ValidationError(
        "no model is given: name the checkpoint with --model-path, or the VAEs with --video-vae-path and "
          + "--audio-vae-path")
    }
  }

  func run() throws {
    compute.apply()
    var locks = OutputLocks("ltx decode")
    defer { locks.release() }
    let (decoder, jobs) = try checkingInput {
      if let problem = OutputFolder.problem(output) {
        throw DatasetError(path: output, problem: problem)
      }
      try locks.lock(folder: output)
      let decoder = try CacheDecoder(models: model.files() ?? ModelFiles(), options: options)
      return (decoder, try decoder.plan(latents, into: output))
    }
    try decoder.runShowing(jobs, into: output)
  }

  private var options: CacheDecodingOptions {
    var options = CacheDecodingOptions()
    options.device = compute.device
    options.dtype = dtype.dtype
    options.vaeTiling = vaeTiling
    options.seed = seed
    options.withAudio = withAudio
    options.audioLatents = audioLatentsDir
    return options
  }
}

extension CacheDecoder {
  /// Decodes, and shows how far it is and what came of it.
  ///
  /// - Throws: `ExitCode` 1 if a file could not be decoded.
  func runShowing(_ jobs: [CacheDecodingJob], into output: String) throws {
    let progress = PhasedProgress()
    let summary = try working {
      defer { progress.finish() }
      return try run(jobs) { event in
        switch event {
        case .loading(let what):
          progress.finish()
          printError("loading \(what)")
        case .advanced(let done, let total):
          progress.show("decoding", done, of: total, unit: "files")
        }
      }
    }
    let failures = summary.failures.map { "error: \($0)" }
    for failure in capped(
      failures, rest: { "\($0) more errors; `ltx dataset check` lists damaged files" })
    {
      printError(failure)
    }
    if summary.ofOtherModels > 0 {
      printError(
        "note: \(counted(summary.ofOtherModels, "file")) made with another model file than the one given; if its weights "
          + "differ, so does what is decoded")
    }
    print("\(summary.written.count) of \(counted(jobs.count, "file")) decoded into \(output)")
    if !summary.failures.isEmpty { throw ExitCode(1) }
  }
}
