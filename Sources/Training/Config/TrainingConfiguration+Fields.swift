// The keys of each section with their rules, and the official trainer's checks between keys of one
// section.

import BlockExecution
import Foundation
import LoRAFiles
import NN
import Optimizers
import Support

extension TrainingConfiguration: ConfigurationSection {
  static let fields: [Field<Self>] = [
    Field("model", \.model),
    Field("lora", \.lora, .optional(.section)),
    Field("training_strategy", \.trainingStrategy, .trainingStrategy),
    Field("optimization", \.optimization),
    Field("acceleration", \.acceleration),
    Field("data", \.data),
    Field("validation", \.validation, affectsResult: false),
    Field("checkpoints", \.checkpoints, affectsResult: false),
    Field("flow_matching", \.flowMatching),
    Field("hub", \.hub, affectsResult: false),
    Field("wandb", \.wandb, affectsResult: false),
    Field("tensorboard", \.tensorboard, isExtension: true, affectsResult: false),
    Field("report", \.report, isExtension: true, affectsResult: false),
    Field("seed", \.seed, .integer(0 ... .max)),
    Field("output_dir", \.outputDir, .absolutePath, affectsResult: false),
  ]
}

extension TrainingConfiguration.Model: ConfigurationSection {
  static let fields: [Field<Self>] = [
    Field("model_path", \.modelPath, .path, isRequired: true, affectsResult: false),
    Field("text_encoder_path", \.textEncoderPath, .optional(.path), affectsResult: false),
    Field("video_vae_path", \.videoVAEPath, .optional(.path), affectsResult: false),
    Field("audio_vae_path", \.audioVAEPath, .optional(.path), affectsResult: false),
    Field("training_mode", \.trainingMode, .choice),
    Field("load_checkpoint", \.loadCheckpoint, .optional(.path), affectsResult: false),
    Field(
      "trainable_modules", \.trainableModules, .optional(.list(of: .nonEmpty)), isExtension: true),
  ]

  mutating func complete(_ reader: SectionReader) {
    if trainingMode == .lora, trainableModules != nil {
      reader.report(
        "trainable_modules",
        "is for training_mode full; a LoRA's modules are named in lora.target_modules")
    } else if trainableModules?.isEmpty == true {
      reader.report(
        "trainable_modules", "is empty; name at least one module, or set it to null for all")
    }
    for scheme in ["http://", "https://"] where modelPath.hasPrefix(scheme) {
      reader.report("model_path", "is a URL; download the checkpoint and give its path")
      return
    }
    reader.checkExists("model_path", modelPath, .any)
    reader.checkExists("text_encoder_path", textEncoderPath, .any)
    reader.checkExists("video_vae_path", videoVAEPath, .file)
    reader.checkExists("audio_vae_path", audioVAEPath, .file)
    reader.checkExists("load_checkpoint", loadCheckpoint, .any)
  }
}

extension TrainingConfiguration.LoRA: ConfigurationSection {
  static let fields: [Field<Self>] = [
    Field("rank", \.rank, .integer(2...65536)),
    Field("alpha", \.alpha, .integer(1 ... .max)),
    Field("dropout", \.dropout, .probability),
    Field("target_modules", \.targetModules, .list(of: .nonEmpty)),
    Field("type", \.type, .choice, isExtension: true),
    Field("use_rslora", \.useRSLoRA, .flag, isExtension: true),
    Field("use_dora", \.useDoRA, .flag, isExtension: true),
    Field("factor", \.factor, .integer(-1...65536), isExtension: true),
    Field("decompose_both", \.decomposeBoth, .flag, isExtension: true),
    Field("full_matrix", \.fullMatrix, .flag, isExtension: true),
  ]

  mutating func complete(_ reader: SectionReader) {
    if useDoRA, type != LoRAAdapter.kind, type != DoRAAdapter.kind {
      reader.report("use_dora", "can't be combined with type \(type.rawValue)")
    }
    if factor == 0 { reader.report("factor", "must be -1 or at least 1 (got 0)") }
    let options = [
      ("factor", factor != -1), ("decompose_both", decomposeBoth), ("full_matrix", fullMatrix),
    ]
    if type != LoKrAdapter.kind, let (key, _) = options.first(where: \.1) {
      reader.report(key, "applies to type \(LoKrAdapter.name) only (got type \(kind.rawValue))")
    }
    if targetModules.isEmpty {
      reader.report("target_modules", "is empty; name at least one linear layer, such as to_q")
    }
  }
}

extension TrainingConfiguration.Optimization: ConfigurationSection {
  static let fields: [Field<Self>] = [
    Field("learning_rate", \.learningRate, .number(.atLeast(0))),
    Field("steps", \.steps, .integer(1...1 << 31)),
    Field("batch_size", \.batchSize, .integer(1...65536)),
    Field("gradient_accumulation_steps", \.gradientAccumulationSteps, .integer(1...1 << 20)),
    Field("max_grad_norm", \.maxGradNorm, .number(.atLeast(0))),
    Field("optimizer_type", \.optimizerType, .choice),
    Field("optimizer_params", \.optimizerParams, .free, isExtension: true),
    Field("scheduler_type", \.schedulerType, .choice),
    Field("scheduler_params", \.schedulerParams, .free),
    Field("warmup_steps", \.warmupSteps, .integer(0...1 << 31), isExtension: true),
    Field("learning_rates", \.learningRates, .rates(.atLeast(0)), isExtension: true),
    Field("ema_decay", \.emaDecay, .optional(.number(.fromBelow(0, 1))), isExtension: true),
    Field(
      "max_skipped_steps", \.maxSkippedSteps, .integer(1 ... .max), isExtension: true,
      affectsResult: false),
    Field(
      "enable_gradient_checkpointing", \.enableGradientCheckpointing, .flag, affectsResult: false),
  ]

  mutating func complete(_ reader: SectionReader) {
    reader.checkOptions("optimizer_params") { () throws(Issues) in
      _ = try OptimizerOptions(optimizerType, params: optimizerParams)
    }
    reader.checkOptions("scheduler_params") { () throws(Issues) in
      _ = try LearningRateSchedule(
        schedulerType, steps: steps, warmupSteps: warmupSteps, params: schedulerParams)
    }
  }
}

extension TrainingConfiguration.Acceleration: ConfigurationSection {
  static let fields: [Field<Self>] = [
    // Without quotes, YAML reads `no` as false.
    Field(
      "mixed_precision_mode", \.mixedPrecisionMode,
      .optional(.choice(["no": .no, "No": .no, "NO": .no]))),
    Field("quantization", \.quantization, .optional(.choice)),
    Field("load_text_encoder_in_8bit", \.loadTextEncoderIn8Bit, .flag, affectsResult: false),
    Field(
      "offload_optimizer_during_validation", \.offloadOptimizerDuringValidation, .flag,
      affectsResult: false),
    Field("memory", \.memory, .optional(.memoryBudget), isExtension: true, affectsResult: false),
    Field(
      "activations", \.activations, .optional(.choice), isExtension: true, affectsResult: false),
    Field(
      "weight_placement", \.weightPlacement, .choice, isExtension: true, affectsResult: false),
    Field(
      "streamed_blocks", \.streamedBlocks, .optional(.integer(0...1024)), isExtension: true,
      affectsResult: false),
    Field(
      "shard_degree", \.shardDegree, .optional(.integer(2...65536)), isExtension: true,
      affectsResult: false),
  ]
}

extension TrainingConfiguration.TrainingData: ConfigurationSection {
  static let fields: [Field<Self>] = [
    Field(
      "preprocessed_data_root", \.preprocessedDataRoot, .absolutePath, isRequired: true,
      affectsResult: false),
    Field(
      "num_dataloader_workers", \.numDataloaderWorkers, .integer(0 ... .max), affectsResult: false),
    Field("caption_dropout", \.captionDropout, .probability, isExtension: true),
    Field("accept_other_model", \.acceptOtherModel, .flag, isExtension: true, affectsResult: false),
  ]

  mutating func complete(_ reader: SectionReader) {
    reader.checkExists(
      "preprocessed_data_root", preprocessedDataRoot, .folder, hint: "; run `ltx preprocess` first")
  }
}

extension TrainingConfiguration.Checkpoints: ConfigurationSection {
  static let fields: [Field<Self>] = [
    Field("interval", \.interval, .optional(.integer(1 ... .max))),
    Field("keep_last_n", \.keepLastN, .integer(-1 ... .max)),
    Field("keep_best", \.keepBest, .flag, isExtension: true),
    Field("precision", \.precision, .choice),
    Field("no_resume", \.noResume, .flag),
    Field(
      "save_training_state", \.saveTrainingState, .choice(["off": .off, "Off": .off, "OFF": .off])),
    Field("on_save_error", \.onSaveError, .choice, isExtension: true),
  ]
}

extension TrainingConfiguration.FlowMatching: ConfigurationSection {
  static let fields: [Field<Self>] = [
    Field("timestep_sampling_mode", \.timestepSamplingMode, .choice),
    Field("timestep_sampling_params", \.timestepSamplingParams, .free),
  ]

  mutating func complete(_ reader: SectionReader) {
    reader.checkOptions("timestep_sampling_params") { () throws(Issues) in
      _ = try TimestepSampler(self)
    }
  }
}

extension TrainingConfiguration.Hub: ConfigurationSection {
  static let fields: [Field<Self>] = [
    Field("push_to_hub", \.pushToHub, .flag),
    Field("hub_model_id", \.hubModelID, .optional(.text)),
  ]

  mutating func complete(_ reader: SectionReader) {
    if pushToHub, (hubModelID ?? "").isEmpty {
      reader.report("hub_model_id", "is missing; push_to_hub needs it, as NAME/REPOSITORY")
    }
  }
}

extension TrainingConfiguration.WeightsAndBiases: ConfigurationSection {
  static let fields: [Field<Self>] = [
    Field("enabled", \.enabled, .flag),
    Field("project", \.project, .text),
    Field("entity", \.entity, .optional(.text)),
    Field("tags", \.tags, .list(of: .text)),
    Field("log_validation_videos", \.logValidationVideos, .flag),
    Field("mode", \.mode, .optional(.choice), isExtension: true),
  ]
}

extension TrainingConfiguration.Output: ConfigurationSection {
  static let fields: [Field<Self>] = [Field("enabled", \.enabled, .flag)]
}
