import ArgumentParser
import Foundation
import Inference
import LTX
import Torch

/// `ltx generate`: parses, plans, runs, prints.
struct GenerateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "generate",
    abstract: "Generate a video from a prompt, with LoRAs if wanted.",
    discussion: """
      Writes an H.264 MP4, or a PNG of a single frame, and prints its path. Everything that can be checked is checked \
      before a model is loaded; the file appears when it is whole. The same seed gives the same bytes on the same \
      device. This version generates no sound.

      Exit status: 0 for a finished video, 1 if the work failed, 2 if the input can't be used, 130 after Ctrl-C.
      """)

  @Option(
    name: [.customLong("model-path"), .customLong("checkpoint-path")], help: "The LTX-2 checkpoint.",
    completion: .file())
  var modelPath: String

  @Option(
    name: [.customLong("text-encoder-path"), .customLong("gemma-root")],
    help: "The folder of the text encoder, Gemma 3.", completion: .directory)
  var textEncoderPath: String

  @Option(help: "What the video should show.")
  var prompt: String

  @Option(help: "What it should not look like; not read at --cfg-scale 1.")
  var negativePrompt = GenerationRequest.defaultNegativePrompt

  @Option(
    name: .customLong("lora"),
    help: ArgumentHelp(
      "A LoRA to add; repeatable, they stack. The strength is 1 if left out.", valueName: "file[:strength]"))
  var loras: [LoRAArgument] = []

  @Option(
    name: .customLong("image"),
    help: ArgumentHelp(
      "A picture that a frame should look like; repeatable. Frame 0 and strength 1 if left out.",
      valueName: "file[:frame[:strength]]"))
  var images: [ImageArgument] = []

  @Option(
    name: [.customLong("output"), .customLong("output-path")],
    help: "The .mp4 to write, or .png for one frame.",
    completion: .file())
  var output: String

  @Option(help: "In pixels; a multiple of what the model's latent cells stand for, 32 in LTX-2.")
  var width = defaults.width

  @Option(help: "In pixels, as --width.")
  var height = defaults.height

  @Option(help: "Frames of the video, 8k + 1 in LTX-2.")
  var numFrames = defaults.frames

  @Option(help: "Frames a second.")
  var frameRate = defaults.frameRate

  @Option(name: [.customLong("steps"), .customLong("num-inference-steps")], help: "Steps of sampling.")
  var steps = defaults.steps

  @Option(
    name: [.customLong("cfg-scale"), .customLong("video-cfg-guidance-scale")],
    help:
      "Classifier-free guidance: how closely the prompt is followed. 1 is off, and saves a pass of each step."
  )
  var cfgScale = defaults.guidance.cfg

  @Option(
    name: [.customLong("stg-scale"), .customLong("video-stg-guidance-scale")],
    help: "Spatio-temporal guidance. 0 is off, and saves a pass of each step.")
  var stgScale = defaults.guidance.stg

  @Option(
    name: [.customLong("stg-blocks"), .customLong("video-stg-blocks")], parsing: .upToNextOption,
    help: ArgumentHelp(
      "Blocks whose self-attention spatio-temporal guidance leaves out. (default: 29 of 48, at that depth in others)",
      valueName: "block"))
  var stgBlocks: [Int] = []

  @Option(
    name: [.customLong("rescale"), .customLong("video-rescale-scale")],
    help: "How far guidance's gain in contrast is taken back, 0 to 1.")
  var rescale = defaults.guidance.rescale

  @Option(help: "Where the noise comes from: the same seed gives the same video.")
  var seed = defaults.seed

  @Option(
    help: "What models compute in: float32 or bfloat16. (default: bfloat16 on GPUs, float32 on CPUs)")
  var dtype: ComputeDType?

  @Option(help: "cpu, cuda or cuda:N.")
  var device: Device = .cpu

  @Option(help: "Threads that an operation may use; all cores if left out.")
  var threads: ThreadCount?

  private static let defaults = GenerationRequest(prompt: "")

  func run() throws {
    threads?.apply()
    let plan = try checkingInput { try GenerationPlan(request, models: models, output: output) }
    for note in plan.notes { printError("note: \(note)") }

    let interruption = Interruption()
    let shown = PhasedProgress()
    try working {
      defer { shown.finish() }
      try GenerationPipeline(plan).run { progress in
        let stage = progress.stage
        shown.show(
          stage.title, progress.done, of: progress.total, unit: stage.unit,
          progress.done == 0 ? "loading" : "")
        if case .decode = stage { interruption.waitsForCaller() }
        if let status = interruption.status { throw ExitCode(status) }
      }
    }
    print(output)
  }

  private var request: GenerationRequest {
    var request = GenerationRequest(prompt: prompt)
    request.negativePrompt = negativePrompt
    request.width = width
    request.height = height
    request.frames = numFrames
    request.frameRate = frameRate
    request.steps = steps
    request.guidance.cfg = cfgScale
    request.guidance.stg = stgScale
    request.guidance.rescale = rescale
    request.stgBlocks = stgBlocks.isEmpty ? nil : Set(stgBlocks)
    request.seed = seed
    request.images = images.map { ImageCondition(path: $0.path, frame: $0.frame, strength: $0.strength) }
    return request
  }

  private var models: GenerationModels {
    GenerationModels(
      checkpoint: modelPath, textEncoder: textEncoderPath,
      loras: loras.map { .init(path: $0.path, strength: $0.strength) }, device: device, dtype: dtype?.dtype)
  }
}

/// `FILE`, `FILE:FRAME` or `FILE:FRAME:STRENGTH`.
struct ImageArgument: ExpressibleByArgument {
  let path: String
  let frame: Int
  let strength: Double

  init?(argument: String) {
    let parts = argument.split(separator: ":", omittingEmptySubsequences: false)
    if parts.count >= 3, let frame = Int(parts[parts.count - 2]),
      let strength = Double(parts[parts.count - 1])
    {
      path = parts.dropLast(2).joined(separator: ":")
      self.frame = frame
      self.strength = strength
    } else if parts.count >= 2, let frame = Int(parts[parts.count - 1]) {
      path = parts.dropLast().joined(separator: ":")
      self.frame = frame
      strength = 1
    } else {
      path = argument
      frame = 0
      strength = 1
    }
    if path.isEmpty { return nil }
  }
}
