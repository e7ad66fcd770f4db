import Foundation
import Generation
import LTX
import Support
import TestSupport
import Testing

@testable import Training

/// The valid values of a training configuration, and the messages about invalid ones.
@Suite struct ConfigurationReadingTests {
  /// The defaults are those of the official trainer's `config.py`.
  @Test func defaults() throws {
    let c = try ConfigurationText.read(ConfigurationText.minimal)
    #expect(c.model == .init(modelPath: "m.safetensors"))
    #expect(c.model.trainingMode == .lora)
    let lora = try #require(c.lora)
    #expect(lora.rank == 64 && lora.alpha == 64 && lora.dropout == 0)
    #expect(
      lora.targetModules == ["to_k", "to_q", "to_v", "to_out.0"] && !lora.useDoRA && !lora.useRSLoRA
    )
    guard case .textToVideo(let strategy) = c.trainingStrategy else {
      Issue.record("the strategy is \(c.trainingStrategy)")
      return
    }
    #expect(strategy.firstFrameConditioningP == 0.1 && !strategy.withAudio)
    let o = c.optimization
    #expect(
      o.learningRate == 5e-4 && o.steps == 3000 && o.batchSize == 2
        && o.gradientAccumulationSteps == 1)
    #expect(o.maxGradNorm == 1 && o.optimizerType == .adamw && o.schedulerType == .linear)
    #expect(o.schedulerParams.isEmpty && !o.enableGradientCheckpointing)
    #expect(
      o.warmupSteps == 0 && o.learningRates.isEmpty && o.emaDecay == nil && o.maxSkippedSteps == 10)
    #expect(c.acceleration.mixedPrecisionMode == .bf16 && c.acceleration.quantization == nil)
    #expect(c.data.numDataloaderWorkers == 2)
    #expect(c.data.preprocessedDataRoot == FileManager.default.currentDirectoryPath + "/d")
    let v = c.validation
    #expect(v.samples.isEmpty && v.negativePrompt == GenerationRequest.defaultNegativePrompt)
    #expect(
      v.videoDims == .init(width: 960, height: 544, frames: 89) && v.frameRate == 24 && v.seed == 42
    )
    #expect(
      v.inferenceSteps == 30 && v.interval == 100 && v.videoCFGScale == 3 && v.audioCFGScale == 7)
    #expect(
      v.videoSTGScale == 1 && v.audioSTGScale == 1 && v.stgBlocks == [28]
        && v.guidanceRescale == 0.7)
    #expect(v.videoModalityGuidanceScale == 3 && v.audioModalityGuidanceScale == 3)
    #expect(v.generateAudio && v.generateVideo && !v.skipInitialValidation && !v.heldOut.isUsed)
    #expect(
      c.checkpoints == .init() && c.checkpoints.keepLastN == 1 && c.checkpoints.interval == nil)
    #expect(c.checkpoints.saveTrainingState == .minimal && c.checkpoints.precision == .bfloat16)
    #expect(c.flowMatching.timestepSamplingMode == .shiftedLogitNormal)
    #expect(!c.hub.pushToHub && !c.wandb.enabled && c.wandb.project == "ltxv-trainer")
    #expect(c.tensorboard.enabled && c.report.enabled)
    #expect(c.seed == 42 && c.outputDir == FileManager.default.currentDirectoryPath + "/outputs")
    #expect(c.notices.isEmpty)
  }

  @Test func everyKey() throws {
    let c = try ConfigurationText.read(ConfigurationText.everything)
    #expect(
      c.model
        == .init(
          modelPath: "m.safetensors", textEncoderPath: "gemma", videoVAEPath: "video.safetensors",
          audioVAEPath: "audio.safetensors", loadCheckpoint: "earlier"))
    #expect(
      c.lora
        == .init(
          rank: 8, alpha: 4, dropout: 0.25, targetModules: ["to_q", "ff.net.2"], useRSLoRA: true,
          useDoRA: true))
    #expect(
      c.trainingStrategy
        == .flexible(
          .init(
            video: .init(
              isGenerated: true, latentsFolder: "clips",
              conditions: [
                .firstFrame(probability: 0.5), .prefix(latentFrames: 2, probability: 0.25),
                .suffix(latentFrames: 3, probability: 1),
                .crop(.init(top: 0, left: 32, bottom: 64, right: 96), probability: 0),
                .mask(folder: "video_masks", probability: 1),
                .reference(folder: "reference_latents", probability: 1),
              ]),
            audio: .init(
              isGenerated: false, latentsFolder: "sounds",
              conditions: [
                .mask(folder: "audio_masks", probability: 1),
                .reference(folder: "reference_audio_latents", probability: 0.75),
              ]))))
    #expect(
      c.optimization
        == .init(
          learningRate: 1e-4, steps: 70, batchSize: 3, gradientAccumulationSteps: 2,
          maxGradNorm: 0.5,
          optimizerType: .adamw8bit, optimizerParams: ["weight_decay": .number(0.01)],
          schedulerType: .cosineWithRestarts,
          schedulerParams: ["T_0": .number(7), "T_mult": .number(2), "eta_min": .number(1e-6)],
          warmupSteps: 5, learningRates: ["to_q": 1e-3, "ff.net.2": 2], emaDecay: 0.99,
          maxSkippedSteps: 4,
          enableGradientCheckpointing: true))
    #expect(
      c.acceleration
        == .init(
          mixedPrecisionMode: .fp16, quantization: .float8, loadTextEncoderIn8Bit: true,
          offloadOptimizerDuringValidation: true))
    #expect(c.data == .init(preprocessedDataRoot: "/data/set", numDataloaderWorkers: 0))
    #expect(
      c.checkpoints
        == .init(
          interval: 5, keepLastN: -1, keepBest: true, precision: .float32, noResume: true,
          saveTrainingState: .full,
          onSaveError: .continue))
    #expect(c.hub == .init(pushToHub: true, hubModelID: "me/mine"))
    #expect(
      c.flowMatching
        == .init(
          timestepSamplingMode: .uniform, timestepSamplingParams: ["min_value": .number(0.125)]))
    #expect(
      c.wandb
        == .init(
          enabled: true, project: "p", entity: "e", tags: ["a", "b"], logValidationVideos: false,
          mode: .offline
        ))
    #expect(!c.tensorboard.enabled && !c.report.enabled && c.seed == 9 && c.outputDir == "/out")
    #expect(c.notices.isEmpty)
  }

  @Test func unknownKeyNamesTheNearest() throws {
    let found = try ConfigurationText.problems(
      ConfigurationText.minimal + "optimization:\n  learning_rte: 1e-4\n")
    #expect(found.count == 1)
    #expect(
      found[0].key == "optimization.learning_rte" && found[0].line == 5 && found[0].column == 3)
    #expect(found[0].message.contains("did you mean optimization.learning_rate?"))
  }

  /// All problems are reported at once, in the order of their lines.
  @Test func everyProblemAtOnce() throws {
    let found = try ConfigurationText.problems(
      """
      model: {}
      lora: {rank: 1, target_modules: []}
      training_strategy: {name: flexible, video: {is_generated: perhaps}}
      optimization: {steps: many, batch_size: 0, scheduler_type: cosin, scheduler_params: {power: 2}}
      data: {preprocessed_data_root: d}
      checkpoints: {keep_last_n: -2}
      validation: {samples: [{conditions: [{type: prefix, video: a, audio: b}, {type: prefx}]}]}
      hub: {push_to_hub: true}
      sead: 1
      """)
    #expect(
      Set(found.map(\.key)) == [
        "model.model_path", "lora.rank", "lora.target_modules",
        "training_strategy.video.is_generated",
        "training_strategy.video.latents_dir", "optimization.steps", "optimization.batch_size",
        "optimization.scheduler_type", "optimization.scheduler_params.power",
        "checkpoints.keep_last_n",
        "validation.samples[0].prompt", "validation.samples[0].conditions[0]",
        "validation.samples[0].conditions[1].type", "hub.hub_model_id", "sead",
      ])
    #expect(found.count == 15)
    #expect(found.compactMap(\.line) == found.compactMap(\.line).sorted())
    #expect(
      found.first { $0.key == "optimization.scheduler_type" }?.message
        == #"must be one of constant, linear, cosine, cosine_with_restarts, polynomial, step (got "cosin")"#
    )
    #expect(found.first { $0.key == "sead" }?.message.contains("did you mean seed?") == true)
  }

  /// One invalid value each; the message says which values are allowed.
  @Test(arguments: [
    ("lora: {dropout: 1.5}", "lora.dropout", "from 0 to 1"),
    ("lora: {alpha: 0}", "lora.alpha", "an integer of at least 1"),
    ("lora: {rank: 8.5}", "lora.rank", "an integer from 2 to 65536"),
    ("lora: {target_modules: to_q}", "lora.target_modules", "a list"),
    ("lora: {target_modules: [no]}", "lora.target_modules[0]", "Put it in quotes"),
    ("optimization: {learning_rate: .inf}", "optimization.learning_rate", "a finite number"),
    ("optimization: {learning_rate: fast}", "optimization.learning_rate", "a number of at least 0"),
    ("optimization: {ema_decay: 1}", "optimization.ema_decay", "from 0 to below 1"),
    (
      "optimization: {warmup_steps: 3000}", "optimization.warmup_steps",
      "below the run's 3000 steps"
    ),
    (
      "optimization: {learning_rates: {to_q: -1}}", "optimization.learning_rates.to_q", "at least 0"
    ),
    (
      "optimization: {optimizer_params: {betaz: 1}}", "optimization.optimizer_params.betaz",
      "not an option of"
    ),
    ("optimization: {scheduler_params: 3}", "optimization.scheduler_params", "a section of keys"),
    (
      "optimization: {scheduler_params: {end_factor: .nan}}",
      "optimization.scheduler_params.end_factor",
      "finite"
    ),
    ("optimization: null", "optimization", "Add keys or remove it"),
    (
      "acceleration: {mixed_precision_mode: bf8}", "acceleration.mixed_precision_mode",
      "no, fp16, bf16"
    ),
    ("acceleration: {quantization: int8}", "acceleration.quantization", "int8-quanto"),
    (
      "flow_matching: {timestep_sampling_params: {mean: 1}}",
      "flow_matching.timestep_sampling_params.mean",
      "std"
    ),
    (
      "validation: {video_dims: [64, 64]}", "validation.video_dims",
      "3 integers: width, height, frames"
    ),
    ("validation: {frame_rate: 0}", "validation.frame_rate", "above 0"),
    ("validation: {video_cfg_scale: 0.5}", "validation.video_cfg_scale", "at least 1"),
    ("validation: {interval: 0}", "validation.interval", "at least 1"),
    ("checkpoints: {on_save_error: ignore}", "checkpoints.on_save_error", "stop, continue"),
    ("wandb: {enabled: 2}", "wandb.enabled", "true or false"),
    ("hub: {push_to_hub: true, hub_model_id: ''}", "hub.hub_model_id", "NAME/REPOSITORY"),
    ("seed: -1", "seed", "at least 0"),
    (
      "training_strategy: {video_loss_weight: -1}", "training_strategy.video_loss_weight",
      "a number of at least 0"
    ),
    (
      "training_strategy: {audio_loss_weight: .inf, with_audio: true}",
      "training_strategy.audio_loss_weight", "a finite number"
    ),
    (
      "training_strategy: {with_audio: true, video_loss_weight: 0, audio_loss_weight: 0}",
      "training_strategy.video_loss_weight", "and audio_loss_weight are both 0"
    ),
    (
      "training_strategy: {video_loss_weight: 0}", "training_strategy.video_loss_weight",
      "only video is generated"
    ),
    (
      """
      training_strategy:
        {name: flexible, audio_loss_weight: 0, audio: {is_generated: true, latents_dir: a},
          video: {is_generated: false, latents_dir: v}}
      """, "training_strategy.audio_loss_weight", "only audio is generated"
    ),
    (
      "training_strategy: {name: video_to_video, video_loss_weight: 1}\nvalidation: {interval: null}",
      "training_strategy.video_loss_weight", "is not a known key"
    ),
    ("output_dir: 2024", "output_dir", "Put it in quotes"),
    ("output_dir: ''", "output_dir", "is empty"),
  ])
  func wrongValue(text: String, key: String, message: String) throws {
    let base = ConfigurationText.minimal
    let found = try ConfigurationText.problems(
      text.hasPrefix("lora") ? base.replacingOccurrences(of: "lora: {}", with: text) : base + text)
    #expect(found.map(\.key) == [key], "\(found)")
    #expect(found.first?.message.contains(message) == true, "\(found)")
    #expect(found.first?.line != nil)
  }

  @Test func sectionsThatNeedEachOther() throws {
    let noLoRA = "model: {model_path: m}\ndata: {preprocessed_data_root: d}\n"
    #expect(try ConfigurationText.problems(noLoRA).map(\.key) == ["lora"])
    #expect(try ConfigurationText.problems(noLoRA + "lora: null\n").map(\.key) == ["lora"])
    #expect(
      try ConfigurationText.problems("lora: {}\n").map(\.key) == [
        "model.model_path", "data.preprocessed_data_root",
      ])
    let full =
      "model: {model_path: m, training_mode: full, trainable_modules: [attn1]}\ndata: {preprocessed_data_root: d}\n"
    #expect(try ConfigurationText.read(full).model.trainableModules == ["attn1"])
    #expect(try ConfigurationText.read(full).lora == nil)
    for kind in BaseQuantization.allCases {
      let text = message {
        _ = try ConfigurationText.read("\(full)acceleration: {quantization: \(kind.rawValue)}\n")
      }
      #expect(text.contains("acceleration"), "\(text)")
      #expect(text.contains("training_mode full trains them, so set it to null"), "\(text)")
    }
    let both =
      full.replacingOccurrences(of: "training_mode: full", with: "training_mode: lora")
      + "lora: {}\n"
    #expect(try ConfigurationText.problems(both).map(\.key) == ["model.trainable_modules"])
  }

  @Test func notYAML() throws {
    func message(_ yaml: String) throws -> String {
      try ConfigurationText.problems(yaml)[0].message
    }
    #expect(try message("a: [1, 2").contains("not valid YAML"))
    #expect(try message("seed: 1\nseed: 2\n").contains("seed appears twice"))
    #expect(try message("a: \u{1}") == "is not valid YAML: control characters are not allowed")
    #expect(try message("- a\n- b\n").contains("not a YAML mapping"))
    #expect(try message("").contains("not a YAML mapping"))
    #expect(try message("seed: !secret 1").contains("has the tag !secret"))
    #expect(try message("? [1]\n: 2\n").contains("not a single value"))
    let bomb = zip("abcdefg", "bcdefgh").reduce("a: &a [1, 1, 1, 1, 1, 1, 1, 1]") { text, names in
      let items = Array(repeating: "*\(names.0)", count: 8).joined(separator: ", ")
      return "\(text)\n\(names.1): &\(names.1) [\(items)]"
    }
    #expect(try message(bomb).contains("more than 20000 values"))
    #expect(
      try message("a: " + String(repeating: "[", count: 100) + String(repeating: "]", count: 100))
        .contains(
          "deep"))
    #expect(try message("a: " + String(repeating: "[", count: 100_000)) == "is nested too deep")
  }

  @Test func unreadableFiles() throws {
    let scratch = try ScratchFolder()
    #expect(
      message { _ = try TrainingConfiguration(path: "/no/such.yaml") }
        == "/no/such.yaml: can't be read; does it exist?")
    let path = scratch.file("latin.yaml")
    try Data([0x61, 0x3a, 0x20, 0xe9]).write(to: URL(fileURLWithPath: path))
    #expect(message { _ = try TrainingConfiguration(path: path) } == "\(path): is not UTF-8 text")
  }

  /// Anchors and merged sections work as in YAML.
  @Test func anchors() throws {
    let c = try ConfigurationText.read(
      """
      model: {model_path: m}
      lora: {}
      data: {preprocessed_data_root: d}
      training_strategy:
        name: flexible
        video: &stream {is_generated: true, latents_dir: x}
        audio: {<<: *stream, latents_dir: y}
      """)
    #expect(
      c.trainingStrategy
        == .flexible(
          .init(
            video: .init(isGenerated: true, latentsFolder: "x"),
            audio: .init(isGenerated: true, latentsFolder: "y")
          )))
  }

  /// A problem that is found later is reported at the position of its value.
  @Test func laterProblems() throws {
    let c = try ConfigurationText.read(ConfigurationText.minimal + "seed: 3\n")
    #expect(
      c.problem(ConfigurationKey(name: "seed"), "is odd").description == "c.yaml:4:1: seed is odd")
    #expect(
      c.problem(ConfigurationKey(name: "lora.rank"), "is large").description
        == "c.yaml:2:1: lora.rank is large")
    #expect(
      c.problem(ConfigurationKey(name: "output_dir"), "is full").description
        == "c.yaml: output_dir is full")
  }
}
