import ArgumentParser
import Generation
import LTX
import LoRAFiles
import Support
import Torch

/// `ltx generate`: parses, plans, runs, prints.
struct GenerateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "generate",
    abstract: "Generate video and audio from a prompt, with or without LoRAs.",
    discussion: """
      Writes an MP4 file with H.264 and AAC, a PNG file of a single frame, or a WAV file of audio alone, \
      and prints its path. All options and files are checked before a model is loaded, and a file appears \
      only when it is complete. The same seed gives the same bytes on the same device.

      With --spatial-upsampler-path the video is generated at a smaller size, then upsampled and refined. \
      With --distilled the fixed noise levels of the distilled models are used. Both can be combined with \
      images, clips, audio and edits.

      Several processes that `ltx launch`, torchrun or srun starts divide the prompts among them.

      Exit status: 0 for finished files, 1 if the work failed, 2 if the input can't be used, 130 after \
      Ctrl-C.

      Example:

        ltx generate --model-path ltx-2.3.safetensors --text-encoder-path gemma-3 \\
          --lora my-lora.safetensors:0.8 --prompt "A red boat" --output boat.mp4
      """)

  @OptionGroup(title: "Model") var model: ModelArguments

  @Option(
    help: ArgumentHelp(
      "The file of the duration head, for --auto-duration; replaces the one in --model-path.",
      valueName: "file"),
    completion: .file())
  var durationHeadPath: String?

  @Flag(
    name: .customLong("text-encoder-8bit"),
    help: "Keep the text encoder's weights in int8, in half the memory of bfloat16.")
  var textEncoder8bit = false

  @OptionGroup var memory: MemoryOptions

  @Option(
    help: ArgumentHelp(
      "Quantize the transformer's matrices while loading, for less memory; those that are quantized in the file stay as they are.",
      valueName: "format"))
  var quantization: BaseQuantization?

  @Option(
    name: .customLong("lora"),
    help: ArgumentHelp(
      "A LoRA to add; repeatable. The default strength is 1.",
      valueName: "file[:strength]"))
  var loras: [FileWithStrength] = []

  @Flag(
    name: .customLong("fuse-loras"),
    help:
      "Add LoRAs to the weights while loading, rounded to bfloat16 as upstream does, instead of beside the weights."
  )
  var fuseLoRAs = false

  @Option(
    name: [.customLong("spatial-upsampler-path"), .customLong("upsampler")],
    help: ArgumentHelp(
      "A spatial latent upsampler, to generate the video in two stages.", valueName: "file"),
    completion: .file())
  var upsampler: String?

  @Option(
    name: .customLong("distilled-lora"),
    help: ArgumentHelp(
      "A LoRA that turns the model into a distilled one for the second stage. The default strength is 1, with res_2s 0.5.",
      valueName: "file[:strength]"))
  var distilledLoRA: FileWithStrength?

  @Option(
    name: .customLong("distilled-lora-strength-stage-1"),
    help: "The strength of the distilled LoRA in the first stage. (default: 0, with res_2s 0.25)")
  var distilledFirstStageStrength: Double?

  @OptionGroup(title: "Detailing") var detailing: DetailingOptions

  @OptionGroup(title: "Result") var result: ResultOptions
  @OptionGroup(title: "Conditions") var conditions: ConditionOptions
  @OptionGroup(title: "Sampling") var sampling: SamplingOptions
  @OptionGroup var decoder: DecoderOptions

  @Option(
    help: "The dtype that models compute in. (default: bfloat16 on GPUs, float32 on CPUs)")
  var dtype: ComputeDType?

  @OptionGroup var compute: ComputeOptions

  func run() throws {
    try compute.apply()
    try compute.require(dtype)
    let (ranks, device) = try checkingInput {
      let ranks = try ProcessRanks() ?? .single
      return (ranks, try compute.device(of: ranks))
    }
    let request = try checkingInput([["promptsFile"]: "--prompts", ["source"]: "--source"]) {
      try self.request()
    }
    let (whole, memory) = try checkingInput(request.options) {
      let plan = try GenerationPlan(request, models: models(on: device), output: result.output)
      return (plan, try plan.memory())
    }
    let plan = whole.taking(WorkShare(ranks))
    if ranks.rank == 0 {
      for note in whole.notes { printError("note: \(note)") }
      printEncoderNote()
      for line in memory.table { printError(line) }
      if whole.outputs.count < ranks.worldSize {
        printError(
          "note: \(counted(whole.outputs.count, "prompt")) for \(ranks.worldSize) processes: "
            + "\(ranks.worldSize - whole.outputs.count) of them have nothing to do")
      }
    }
    guard !plan.outputs.isEmpty else { return }
    var locks = OutputLocks("ltx generate")
    defer { locks.release() }
    try checkingInput { for path in plan.outputs { try locks.lock(file: path) } }

    let interruption = Interruption()
    let shown = PhasedProgress()
    try working {
      defer { shown.finish() }
      try GenerationPipeline(plan, memory).run { progress in
        shown.show(progress)
        if progress.stage.writes { interruption.waitsForCaller() }
        if let status = interruption.status { throw ExitCode(status) }
      }
    }
    for path in plan.outputs { print(path) }
  }

  private func request() throws -> GenerationRequest {
    var request = GenerationRequest(prompts: try result.allPrompts())
    request.negativePrompt = result.negativePrompt
    (request.width, request.height) = (result.width, result.height)
    (request.frames, request.frameRate) = (result.numFrames, result.frameRate)
    request.duration = try result.duration()
    request.generatedKeyframes = try sampling.keyframes()
    request.detailingRounds = try detailing.rounds()
    request.decoderSteps = decoder.decoderSteps
    request.hasAudio = result.audio
    request.seed = result.seed
    request.isDistilled = sampling.distilled
    request.steps = sampling.steps
    request.method = sampling.sampler
    request.guidance = sampling.guidance
    request.conditions = try conditions.conditions()
    request.referenceAttention = conditions.referenceAttention
    return request
  }

  private func models(on device: Device) -> GenerationModels {
    var files = model.files
    files[.durationHead] = durationHeadPath
    var models = GenerationModels(
      files, loras: loras.map(\.lora), device: device, dtype: dtype?.dtype)
    models.textEncoder8bit = textEncoder8bit
    models.memory = memory.settings
    models.quantization = quantization
    models.fusesLoRAs = fuseLoRAs
    models.upsampler = upsampler
    (models.detailingLoRA, models.temporalUpsampler) = (
      detailing.lora?.lora, detailing.temporalUpsamplerPath
    )
    (models.distilledLoRA, models.distilledStrength) = (
      distilledLoRA?.path, distilledLoRA?.givenStrength
    )
    models.distilledFirstStageStrength = distilledFirstStageStrength
    return models
  }
}

extension BaseQuantization: ExpressibleByArgument {
  /// An unsupported format is accepted here, so that the error explains it.
  public static var allValueStrings: [String] { supported.map(\.rawValue) }
}

extension GenerationRequest {
  /// The options that the values of a request come from.
  fileprivate var options: SubjectTable {
    var options: SubjectTable = [
      ["prompts"]: "--prompt", ["output"]: "--output", ["width"]: "--width", ["height"]: "--height",
      ["frames"]: "--num-frames", ["frameRate"]: "--frame-rate", ["steps"]: "--steps",
      ["detailing"]: "--dfr", ["detailingRounds"]: "--temporal-upsample-rounds",
      ["detailingLoRA"]: "--detailing-lora",
      ["temporalUpsampler"]: "--temporal-upsampler-path",
      ["duration"]: "--auto-duration", ["durationHead"]: "--duration-head-path",
      ["generatedKeyframes"]: generatedKeyframes.option, ["decoderSteps"]: "--decoder-steps",
      ["isDistilled"]: "--distilled", ["referenceAttention"]: "--reference-attention",
      ["loras"]: "--lora", ["upsampler"]: "--spatial-upsampler-path",
      ["distilledLoRA"]: "--distilled-lora", ["quantization"]: "--quantization",
      ["guidance", "video", "modality"]: "--a2v-scale",
      ["guidance", "audio", "modality"]: "--v2a-scale",
    ]
    for modality in Modality.allCases {
      let name = Issue.PathComponent.name(modality.rawValue)
      options["guidance", name, "cfg"] = "--\(modality)-cfg-scale"
      options["guidance", name, "stg"] = "--\(modality)-stg-scale"
      options["guidance", name, "rescale"] = "--\(modality)-rescale"
      options["guidance", name, "skipSteps"] = "--\(modality)-skip-step"
      options["guidance", name, "stgBlocks"] = "--\(modality)-stg-blocks"
    }
    for (index, condition) in conditions.enumerated() {
      let subject: [Issue.PathComponent] = ["conditions", .index(index)]
      let (option, parts) = condition.options
      options[subject] = option
      for (part, option) in parts { options[subject + [part]] = option }
    }
    return options
  }
}

extension GeneratedKeyframes {
  fileprivate var option: String {
    switch self {
    case .count: "--num-generated-keyframes"
    case .frames: "--generated-keyframes"
    }
  }
}

extension Condition<MediaFile> {
  /// The option of the condition, and those of its parts that have their own option.
  fileprivate var options: (own: String, parts: [Issue.PathComponent: String]) {
    switch kind {
    case .image, .firstFrame: ("--image", ["crf": "--image-crf"])
    case .prefix: ("--prefix", [:])
    case .suffix: ("--suffix", [:])
    case .retake, .mask, .crop: ("--source", ["start": "--start-time", "mask": "--mask"])
    case .reference: ("--reference", [:])
    case .whole:
      modality == .audio ? ("--sound", ["start": "--sound-start-time"]) : ("--video", [:])
    }
  }
}
