import BlockExecution
import Foundation

/// A training run, as its YAML file describes it. Keys and defaults are those of the official trainer (ltx-trainer
/// 1.2.0, `config.py`).
public struct TrainingConfiguration: Sendable {
  public struct LoRA: Sendable, Equatable {
    public var rank = 64
    public var alpha = 64
    public var targetModules = ["to_k", "to_q", "to_v", "to_out.0"]
  }

  public enum SchedulerType: String, CaseIterable, Sendable { case constant, linear }
  public enum MixedPrecision: String, CaseIterable, Sendable { case no, bf16 }
  public enum SavedPrecision: String, CaseIterable, Sendable { case bfloat16, float32 }
  public enum TimestepSampling: String, CaseIterable, Sendable {
    case uniform
    case shiftedLogitNormal = "shifted_logit_normal"
  }

  /// The file that it was read from.
  public var file: String

  public var modelPath: String
  public var lora = LoRA()
  /// How often a sample is trained with its first frame given.
  public var firstFrameProbability: Double
  /// The folder of video latents below the data's root.
  public var latentsFolder = "latents"

  public var learningRate = 5e-4
  public var steps = 3000
  public var batchSize = 2
  public var accumulationSteps = 1
  public var maxGradientNorm = 1.0
  public var scheduler = SchedulerType.linear
  /// The linear schedule's first and last factor.
  public var schedulerFactors = (start: 1.0, end: 0.1)
  public var activations = ActivationPolicy.keep

  public var mixedPrecision = MixedPrecision.bf16
  public var dataRoot: String

  /// Steps between saved adapters; nil saves at the end only.
  public var checkpointInterval: Int?
  /// How many of the newest are kept; -1 keeps all.
  public var keptCheckpoints = 1
  public var savedPrecision = SavedPrecision.bfloat16
  /// Start over even where the output folder holds a run that could go on.
  public var ignoresEarlierRun = false

  public var timestepSampling = TimestepSampling.shiftedLogitNormal
  public var seed = 42
  public var outputFolder: String
  /// What the file asks for and this version leaves undone, one sentence each.
  public var notices: [String] = []
  /// Where keys stand whose values can only be judged by what they name.
  private let places: [Key: ConfigurationProblems.Problem]

  enum Key { case targetModules, dataRoot, outputFolder }

  /// A value that turned out to be impossible, told with its place in the file.
  func problem(_ key: Key, _ message: String) -> ConfigurationProblems {
    let place = places[key]
    return ConfigurationProblems(
      file: file,
      problems: [.init(line: place?.line, column: place?.column, key: place?.key ?? "", message: message)])
  }

  /// Reads a file and checks all of it.
  ///
  /// - Throws: `ConfigurationProblems` with everything that is wrong, each with its line.
  public init(path: String) throws {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw ConfigurationProblems(
        file: path,
        problems: [.init(line: nil, column: nil, key: "", message: "can't be read; does it exist?")])
    }
    try self.init(yaml: String(decoding: data, as: UTF8.self), file: path)
  }

  /// - Parameter file: for messages; relative paths in the text are relative to the working directory.
  public init(yaml: String, file: String) throws {
    let root = try YAMLReader(yaml: yaml, file: file)
    self.file = file

    let model = root.section("model")
    modelPath = Self.expand(model.string("model_path"))
    if model.optionalString("training_mode") == "full" {
      model.report("training_mode", "is \"full\"; this version trains LoRA only, so set it to \"lora\"")
    }
    for key in ["video_vae_path", "audio_vae_path", "load_checkpoint"] where model.has(key) {
      model.report(key, "can't be used by this version yet; leave it out")
    }
    model.accept("text_encoder_path")
    model.finish()

    let loraSection = root.section("lora")
    lora = Self.readLoRA(loraSection, isGiven: root.has("lora"), root)
    let strategy = Self.readStrategy(root.section("training_strategy"))
    firstFrameProbability = strategy.firstFrameProbability
    latentsFolder = strategy.latentsFolder

    let optimization = root.section("optimization")
    learningRate = optimization.double("learning_rate", default: 5e-4, in: 0 ... .infinity)
    steps = optimization.int("steps", default: 3000, in: 1 ... .max)
    batchSize = optimization.int("batch_size", default: 2, in: 1 ... .max)
    accumulationSteps = optimization.int("gradient_accumulation_steps", default: 1, in: 1 ... .max)
    maxGradientNorm = optimization.double("max_grad_norm", default: 1, in: 0 ... .infinity)
    if let optimizer = optimization.optionalString("optimizer_type"), optimizer != "adamw" {
      optimization.report("optimizer_type", "is \"\(optimizer)\"; this version has adamw")
    }
    scheduler = optimization.choice("scheduler_type", default: .linear)
    let factors = optimization.section("scheduler_params")
    schedulerFactors = (
      factors.double("start_factor", default: 1, in: 0 ... .infinity),
      factors.double("end_factor", default: 0.1, in: 0 ... .infinity)
    )
    factors.finish()
    activations = optimization.bool("enable_gradient_checkpointing", default: false) ? .recompute : .keep
    optimization.finish()

    let acceleration = root.section("acceleration")
    mixedPrecision = acceleration.choice("mixed_precision_mode", default: .bf16)
    if acceleration.has("quantization") {
      acceleration.report("quantization", "can't be used by this version yet; set it to null")
    }
    acceleration.accept("load_text_encoder_in_8bit", "offload_optimizer_during_validation")
    acceleration.finish()

    let data = root.section("data")
    dataRoot = Self.expand(data.string("preprocessed_data_root"))
    data.accept("num_dataloader_workers")
    data.finish()

    let checkpoints = root.section("checkpoints")
    checkpointInterval = checkpoints.optionalInt("interval", in: 1 ... .max)
    keptCheckpoints = checkpoints.int("keep_last_n", default: 1, in: -1 ... .max)
    savedPrecision = checkpoints.choice("precision", default: .bfloat16)
    ignoresEarlierRun = checkpoints.bool("no_resume", default: false)
    checkpoints.accept("save_training_state")
    checkpoints.finish()

    let flow = root.section("flow_matching")
    timestepSampling = flow.choice("timestep_sampling_mode", default: .shiftedLogitNormal)
    flow.section("timestep_sampling_params").finish()
    flow.finish()

    notices = Self.readUndone(root)
    seed = root.int("seed", default: 42, in: 0 ... .max)
    outputFolder = Self.expand(root.string("output_dir", default: "outputs"))
    root.finish()
    places = [
      .targetModules: loraSection.problem("target_modules", ""),
      .dataRoot: data.problem("preprocessed_data_root", ""), .outputFolder: root.problem("output_dir", ""),
    ]

    if !root.allProblems.isEmpty {
      let ordered = root.allProblems.sorted {
        ($0.line ?? 0, $0.column ?? 0) < ($1.line ?? 0, $1.column ?? 0)
      }
      throw ConfigurationProblems(file: file, problems: ordered)
    }
  }

  private static func readLoRA(_ section: YAMLReader, isGiven: Bool, _ root: YAMLReader) -> LoRA {
    guard isGiven else {
      root.report("lora", "is missing; training a LoRA needs this section")
      return LoRA()
    }
    var lora = LoRA()
    lora.rank = section.int("rank", default: 64, in: 1...65536)
    lora.alpha = section.int("alpha", default: 64, in: 1 ... .max)
    lora.targetModules = section.strings("target_modules", default: lora.targetModules)
    if lora.targetModules.isEmpty {
      section.report("target_modules", "is empty; name at least one linear layer, such as to_q")
    }
    if section.double("dropout", default: 0, in: 0...1) != 0 {
      section.report("dropout", "can't be used by this version yet; set it to 0")
    }
    section.finish()
    return lora
  }

  /// The strategies say the same in two ways; this version trains video from text, with or without its first frame.
  private static func readStrategy(_ section: YAMLReader) -> (
    firstFrameProbability: Double, latentsFolder: String
  ) {
    let name = section.string("name", default: "text_to_video")
    var probability = 0.0
    var folder = "latents"
    switch name {
    case "text_to_video":
      probability = section.double("first_frame_conditioning_p", default: 0.1, in: 0...1)
      if section.bool("with_audio", default: false) {
        section.report("with_audio", "is true; this version trains video only, so set it to false")
      }
      section.accept("audio_latents_dir")
    case "flexible":
      let video = section.section("video")
      if !section.has("video") { section.report("video", "is missing; this version trains video") }
      if section.has("audio") {
        section.report("audio", "is given; this version trains video only, so set it to null")
        section.accept("audio")
      }
      if section.has("video"), !video.bool("is_generated") {
        video.report("is_generated", "is false; this version trains video, so set it to true")
      }
      folder = video.string("latents_dir", default: "latents")
      for condition in video.sections("conditions") {
        let type = condition.string("type")
        if type == "first_frame" {
          probability = condition.double("probability", default: 1, in: 0...1)
          condition.finish()
        } else {
          condition.report("type", "is \"\(type)\"; this version knows first_frame")
        }
      }
      video.finish()
    default:
      section.report("name", "is \"\(name)\"; this version knows text_to_video and flexible")
      return (0, folder)
    }
    section.finish()
    return (probability, folder)
  }

  /// Sections of the official schema whose work this version does not do. They are accepted so that the official files
  /// run, and what is left out is said.
  private static func readUndone(_ root: YAMLReader) -> [String] {
    var notices: [String] = []
    let validation = root.section("validation")
    let wantsSamples =
      !validation.sections("samples").isEmpty || !validation.strings("prompts", default: []).isEmpty
    if validation.optionalInt("interval", in: 1 ... .max) != nil, wantsSamples {
      notices.append(
        "validation: this version makes no samples during training; use `ltx generate` with the LoRA")
    }
    validation.accept(
      "negative_prompt", "images", "reference_videos", "reference_downscale_factor", "video_dims",
      "frame_rate", "seed",
      "inference_steps", "video_cfg_scale", "audio_cfg_scale", "video_stg_scale", "audio_stg_scale",
      "stg_blocks",
      "guidance_rescale", "video_modality_guidance_scale", "audio_modality_guidance_scale", "generate_audio",
      "generate_video", "skip_initial_validation", "include_reference_in_output", "guidance_scale",
      "stg_scale",
      "stg_mode")
    validation.finish()
    let hub = root.section("hub")
    if hub.bool("push_to_hub", default: false) { notices.append("hub: this version does not upload") }
    hub.accept("hub_model_id")
    hub.finish()
    let wandb = root.section("wandb")
    if wandb.bool("enabled", default: false) {
      notices.append("wandb: this version writes metrics.jsonl only")
    }
    wandb.accept("project", "entity", "tags", "log_validation_videos")
    wandb.finish()
    return notices
  }

  private static func expand(_ path: String) -> String { NSString(string: path).expandingTildeInPath }
}
