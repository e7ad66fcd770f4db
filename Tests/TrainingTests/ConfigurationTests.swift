import Testing

@testable import Training

/// What a training configuration may say, and how it is told what is wrong.
@Suite struct ConfigurationTests {
  private static let minimal = """
    model: {model_path: m.safetensors}
    lora: {rank: 8, alpha: 4}
    data: {preprocessed_data_root: d}
    """

  private func problems(_ yaml: String) throws -> [ConfigurationProblems.Problem] {
    try #require(throws: ConfigurationProblems.self) { try TrainingConfiguration(yaml: yaml, file: "c.yaml") }
      .problems
  }

  /// The defaults are the official trainer's.
  @Test func defaults() throws {
    let c = try TrainingConfiguration(yaml: Self.minimal, file: "c.yaml")
    #expect(c.lora == .init(rank: 8, alpha: 4, targetModules: ["to_k", "to_q", "to_v", "to_out.0"]))
    #expect(c.learningRate == 5e-4 && c.steps == 3000 && c.batchSize == 2 && c.accumulationSteps == 1)
    #expect(c.maxGradientNorm == 1 && c.scheduler == .linear && c.schedulerFactors == (1, 0.1))
    #expect(c.activations == .keep && c.mixedPrecision == .bf16 && c.savedPrecision == .bfloat16)
    #expect(c.firstFrameProbability == 0.1 && c.timestepSampling == .shiftedLogitNormal)
    #expect(
      c.seed == 42 && c.outputFolder == "outputs" && c.checkpointInterval == nil && c.keptCheckpoints == 1)
  }

  @Test func readsEverySection() throws {
    let c = try TrainingConfiguration(
      yaml: """
        model: {model_path: m.safetensors, text_encoder_path: g, training_mode: lora, load_checkpoint: null}
        lora: {rank: 16, alpha: 16, dropout: 0.0, target_modules: [to_q]}
        training_strategy:
          name: flexible
          video: {is_generated: true, latents_dir: clips, conditions: [{type: first_frame, probability: 0.25}]}
        optimization: {learning_rate: 1e-4, steps: 7, batch_size: 3, gradient_accumulation_steps: 2,
          max_grad_norm: 0.5, optimizer_type: adamw, scheduler_type: constant, enable_gradient_checkpointing: true}
        acceleration: {mixed_precision_mode: "no", quantization: null}
        data: {preprocessed_data_root: d, num_dataloader_workers: 2}
        validation: {interval: null, video_dims: [64, 64, 9]}
        checkpoints: {interval: 5, keep_last_n: -1, precision: float32}
        flow_matching: {timestep_sampling_mode: uniform, timestep_sampling_params: {}}
        hub: {push_to_hub: false}
        wandb: {enabled: false, tags: [a]}
        seed: 9
        output_dir: out
        """, file: "c.yaml")
    #expect(c.lora.targetModules == ["to_q"] && c.firstFrameProbability == 0.25 && c.latentsFolder == "clips")
    #expect(c.learningRate == 1e-4 && c.steps == 7 && c.batchSize == 3 && c.accumulationSteps == 2)
    #expect(c.maxGradientNorm == 0.5 && c.scheduler == .constant && c.activations == .recompute)
    #expect(c.mixedPrecision == .no && c.checkpointInterval == 5 && c.keptCheckpoints == -1)
    #expect(
      c.savedPrecision == .float32 && c.timestepSampling == .uniform && c.seed == 9 && c.outputFolder == "out"
    )
    #expect(c.notices.isEmpty)
  }

  @Test func unknownKeyNamesTheNearest() throws {
    let found = try problems(Self.minimal + "\noptimization:\n  learning_rte: 1e-4\n")
    #expect(found.count == 1)
    #expect(found[0].key == "optimization.learning_rte" && found[0].line == 5)
    #expect(found[0].message.contains("did you mean optimization.learning_rate?"))
  }

  /// All problems are told at once, in the order of their lines.
  @Test func everyProblemAtOnce() throws {
    let found = try problems(
      """
      model: {}
      lora: {rank: 0, target_modules: []}
      optimization: {steps: many, batch_size: 0, scheduler_type: cosin}
      data: {preprocessed_data_root: d}
      sead: 1
      """)
    let keys = found.map(\.key)
    #expect(
      keys.sorted() == [
        "lora.rank", "lora.target_modules", "model.model_path", "optimization.batch_size",
        "optimization.scheduler_type", "optimization.steps", "sead",
      ])
    #expect(found.compactMap(\.line) == found.compactMap(\.line).sorted())
    #expect(
      found.first { $0.key == "optimization.scheduler_type" }?.message.contains("constant, linear") == true)
    #expect(found.first { $0.key == "sead" }?.message.contains("did you mean seed?") == true)
  }

  @Test func whatThisVersionCannotDo() throws {
    let found = try problems(
      """
      model: {model_path: m, training_mode: full, load_checkpoint: x}
      lora: {dropout: 0.1}
      training_strategy: {name: text_to_video, with_audio: true}
      optimization: {optimizer_type: adamw8bit}
      acceleration: {quantization: int8-quanto}
      data: {preprocessed_data_root: d}
      """)
    #expect(
      found.map(\.key).sorted() == [
        "acceleration.quantization", "lora.dropout", "model.load_checkpoint", "model.training_mode",
        "optimization.optimizer_type", "training_strategy.with_audio",
      ])
    let notices = try TrainingConfiguration(
      yaml: Self.minimal + "\nvalidation: {interval: 10, samples: [{prompt: a}]}\nwandb: {enabled: true}\n",
      file: "c.yaml"
    ).notices
    #expect(notices.count == 2)
  }

  @Test func notYAML() throws {
    #expect(try problems("a: [1, 2")[0].message.contains("not valid YAML"))
    #expect(try problems("seed: 1\nseed: 2\n")[0].message.contains("seed stands twice"))
    #expect(try problems("a: \u{1}")[0].message == "is not valid YAML: control characters are not allowed")
    #expect(try problems("- a\n- b\n")[0].message.contains("not a YAML mapping"))
    #expect(try problems("")[0].message.contains("not a YAML mapping"))
    let missing = try #require(throws: ConfigurationProblems.self) {
      try TrainingConfiguration(path: "/no/such.yaml")
    }
    #expect(missing.description.contains("/no/such.yaml"))
  }
}
