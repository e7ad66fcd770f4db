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
      "Decode cached latents to videos, images and audio, to see what training sees.",
    discussion: """
      LATENTS is a folder of a cache such as .precomputed/latents, a whole cache, or one file. Video \
      latents become MP4 (PNG for a single frame), audio latents WAV, masks gray MP4 or PNG. A whole \
      cache is decoded into decoded_videos, decoded_audio, decoded_reference_videos and so on below \
      OUTPUT.

      Exit status: 0 if every file is decoded, 1 if some could not be decoded, 2 if nothing was \
      started.

      Example:
        ltx decode .precomputed/latents decoded --model-path ltx-2.safetensors --with-audio
      """)

  @Argument(
    help: ArgumentHelp("A folder of a cache, a cache, or one of its files.", valueName: "latents"),
    completion: .directory)
  var latents: String

  @Argument(help: "The folder for the decoded files.", completion: .directory)
  var output: String

  @OptionGroup var model: CheckpointArguments

  @Flag(
    inversion: .prefixedNo,
    help: "Decode in tiles of 512 pixels and 128 frames, which takes less memory.")
  var vaeTiling = true

  @Option(help: "The seed of the noise that some decoders add.")
  var seed: UInt64 = 0

  @OptionGroup var decoder: DecoderOptions

  @Flag(
    help:
      """
      Put the audio of each sample into its video. For a folder of latents, also write WAV files \
      into decoded_audio beside OUTPUT.
      """
  )
  var withAudio = false

  @Option(
    help: ArgumentHelp(
      "The folder of the audio latents. Default: audio_latents beside the latents.",
      valueName: "folder"),
    completion: .directory)
  var audioLatentsDir: String?

  @Option(
    help: "The dtype that the VAEs compute in. (default: bfloat16 on GPUs, float32 on CPUs)")
  var dtype: ComputeDType?

  @OptionGroup var compute: ComputeOptions

  func validate() throws {
    if model.files() == nil {
      throw ValidationError(
        "the model is missing. Name the checkpoint with --model-path, or the VAEs with "
          + "--video-vae-path and --audio-vae-path")
    }
  }

  func run() throws {
    try compute.apply()
    try compute.require(dtype)
    var locks = OutputLocks("ltx decode")
    defer { locks.release() }
    let (decoder, jobs) = try checkingInput(.decoding) {
      if let problem = OutputFolder.problem(output) {
        throw Issue(["output", .file(output)], problem)
      }
      try locks.lock(folder: output)
      let decoder = try CacheDecoder(models: model.files() ?? ModelFiles(), options: options)
      return (decoder, try decoder.plan(latents, into: output))
    }
    printEncoderNote()
    try decoder.runShowing(jobs, into: output)
  }

  private var options: CacheDecodingOptions {
    var options = CacheDecodingOptions()
    options.device = compute.device
    options.dtype = (dtype ?? (compute.device == .cpu ? .float32 : .bfloat16)).dtype
    options.vaeTiling = vaeTiling
    options.seed = seed
    options.decoderSteps = decoder.decoderSteps
    options.withAudio = withAudio
    options.audioLatents = audioLatentsDir
    return options
  }
}

extension SubjectTable {
  /// The arguments of `ltx decode`, by the subjects of `Datasets`.
  fileprivate static let decoding: SubjectTable = [
    ["output"]: "OUTPUT", ["decoderSteps"]: "--decoder-steps",
  ]
}

extension CacheDecoder {
  /// Decodes, and shows the progress and the result.
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
    let failures = summary.failures.map { "error: \(SubjectTable.decoding.message($0))" }
    for failure in capped(
      failures, rest: { "\($0) more errors; `ltx dataset check` lists damaged files" })
    {
      printError(failure)
    }
    if summary.ofOtherModels > 0 {
      printError(
        "note: \(counted(summary.ofOtherModels, "file")) made with another model file than the given "
          + "one. If its weights differ, so does the output")
    }
    print("\(summary.written.count) of \(counted(jobs.count, "file")) decoded into \(output)")
    if !summary.failures.isEmpty { throw ExitCode(1) }
  }
}
