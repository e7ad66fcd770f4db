import Foundation
import NN
import Support
import TestSupport
import Testing

@testable import Training

@Suite struct ConfigurationWritingTests {
  private func again(_ c: TrainingConfiguration) throws -> TrainingConfiguration {
    try TrainingConfiguration(yaml: c.resolvedYAML, file: "again.yaml", checksPaths: false)
  }

  @Test(arguments: [
    ConfigurationText.minimal, ConfigurationText.everything,
    ConfigurationText.minimal
      + "validation: {prompts: [a], guidance_scale: 2, stg_mode: stg_v, reference_videos: [r]}\ntraining_strategy: {name: video_to_video}\n",
  ])
  func readsBack(text: String) throws {
    let c = try ConfigurationText.read(text)
    let copy = try again(c)
    #expect(copy == c)
    #expect(copy.notices.allSatisfy { $0.key == "training_strategy.name" })
    #expect(try copy.resolvedYAML == c.resolvedYAML)
    #expect(copy.json == c.json && copy.fingerprintValues == c.fingerprintValues)
  }

  /// Strings and numbers of all kinds survive, even if they look like other YAML types.
  @Test func anyValueReadsBack() throws {
    var random = SplitMix(seed: 11)
    let pieces = [
      "yes", "no", "~", "null", "1e-4", "0x10", "12:30", "a: b", "- a", "#x", "'", "\"", "\\", "\n",
      "\t",
      " ", "é", "漢",
      "😀", "{", "[", "&a", "*a", "!t", "%", "@", "|", ">", "=", "<<", "2001-01-01", "\u{7}",
      "\u{85}",
      "\u{2028}", "",
    ]
    func text() -> String {
      (0..<Int.random(in: 1...4, using: &random)).map { _ in
        pieces.randomElement(using: &random) ?? ""
      }
      .joined()
    }
    func number() -> Double {
      let magnitude = Double.random(in: -30...20, using: &random)
      return Double.random(in: 0...1, using: &random) * pow(10, magnitude)
    }
    var c = try ConfigurationText.read(ConfigurationText.everything)
    for _ in 0..<100 {
      c.validation.negativePrompt = text()
      c.validation.samples[0].prompt = text()
      c.wandb.tags = [text(), text()]
      c.optimization.learningRate = number()
      c.optimization.learningRates = [text(): number(), "b": number()]
      c.seed = Int.random(in: 0 ... .max, using: &random)
      c.checkpoints.interval = Bool.random(using: &random) ? nil : 3
      let copy = try again(c)
      let text = try c.resolvedYAML
      #expect(copy == c, "\(text)")
      #expect(
        copy.seed == c.seed && copy.optimization == c.optimization
          && copy.validation == c.validation)
    }
  }

  /// A file for the official trainer has no extensions, unless they are set.
  @Test func ownKeysWithDefaultsAreLeftOut() throws {
    let plain = try ConfigurationText.read(ConfigurationText.minimal).resolvedYAML
    for key in [
      "use_dora", "use_rslora", "trainable_modules", "optimizer_params", "warmup_steps",
      "learning_rates",
      "ema_decay",
      "max_skipped_steps", "held_out", "on_save_error", "keep_best", "tensorboard", "report",
      "mode: null", "loss_weight", "caption_dropout",
    ] {
      #expect(!plain.contains(key), "\(key)")
    }
    let c = try ConfigurationText.read(ConfigurationText.minimal, overrides: ["lora.use_dora=true"])
    #expect(try c.resolvedYAML.contains("use_dora: true"))
  }

  @Test func json() throws {
    let json = try ConfigurationText.read(ConfigurationText.everything).json
    guard case .object(let sections) = json,
      case .object(let optimization) = sections["optimization"]
    else {
      Issue.record("\(json)")
      return
    }
    #expect(optimization["steps"] == .number(70) && optimization["learning_rate"] == .number(1e-4))
    #expect(
      optimization["scheduler_params"]
        == .object(["T_0": .number(7), "T_mult": .number(2), "eta_min": .number(1e-6)]))
    #expect(sections["output_dir"] == .string("/out"))
    #expect(try JSONDecoder().decode(JSON.self, from: JSONEncoder().encode(json)) == json)
  }

  /// A key changes the fingerprint if and only if it changes the results of a run.
  @Test(
    arguments: [
      ("lora.rank=9", "lora.rank"), ("lora.use_dora=true", "lora.use_dora"), ("seed=8", "seed"),
      ("optimization.steps=9", "optimization.steps"),
      ("optimization.ema_decay=0.5", "optimization.ema_decay"),
      ("optimization.learning_rates={to_q: 3}", "optimization.learning_rates.to_q"),
      ("training_strategy.with_audio=true", "training_strategy.with_audio"),
      ("training_strategy.video_loss_weight=2", "training_strategy.video_loss_weight"),
      ("data.caption_dropout=0.1", "data.caption_dropout"),
      ("flow_matching.timestep_sampling_mode=uniform", "flow_matching.timestep_sampling_mode"),
      ("acceleration.quantization=int8-quanto", "acceleration.quantization"),
      ("output_dir=x", nil), ("wandb.enabled=true", nil), ("validation.interval=3", nil),
      ("report.enabled=no", nil),
      ("checkpoints.interval=3", nil), ("data.num_dataloader_workers=5", nil),
      ("hub.hub_model_id=a/b", nil),
      ("optimization.enable_gradient_checkpointing=true", nil), ("model.model_path=other", nil),
      ("acceleration.offload_optimizer_during_validation=true", nil),
      ("tensorboard.enabled=no", nil),
      ("optimization.max_skipped_steps=2", nil),
    ] as [(String, String?)])
  func fingerprint(option: String, key: String?) throws {
    let base = ConfigurationText.minimal
    let before = try ConfigurationText.read(base).fingerprintValues
    let after = try ConfigurationText.read(base, overrides: [option]).fingerprintValues
    let changed = Set(before.keys).union(after.keys).filter {
      before[$0] != after[$0] && $0 != "optimization.learning_rates"
    }
    #expect(changed == Set([key].compactMap { $0 }))
  }

  /// A run that was started before an extension existed had its default value.
  @Test func fingerprintsOfOlderVersions() throws {
    func fingerprint(_ values: [String: String], _ implied: Set<String>) -> RunFingerprint {
      RunFingerprint(
        configuration: values, implied: implied, model: "m", dataset: "d", start: nil, ranks: 1)
    }
    let c = try ConfigurationText.read(ConfigurationText.minimal)
    let key = "data.caption_dropout"
    var older = c.fingerprintValues
    #expect(older.removeValue(forKey: key) == "0.0")
    let earlier = fingerprint(older, [])
    let own = fingerprint(c.fingerprintValues, c.impliedKeys)
    #expect(own.differences(from: earlier).isEmpty)
    let changed = try ConfigurationText.read(
      ConfigurationText.minimal, overrides: ["\(key)=0.5"])
    let other = fingerprint(changed.fingerprintValues, changed.impliedKeys)
    #expect(other.differences(from: earlier) == [key])
    #expect(own.differences(from: other) == [key])
    older["seed"] = nil
    #expect(own.differences(from: fingerprint(older, [])) == ["seed"])
  }

  /// A constant schedule is independent of the end, so the run may be extended.
  @Test(arguments: [
    ("constant", false), ("linear", true), ("cosine", true), ("step", true), ("polynomial", true),
    ("cosine_with_restarts", true),
  ])
  func stepsInTheFingerprint(scheduler: String, counts: Bool) throws {
    let c = try ConfigurationText.read(
      ConfigurationText.minimal, overrides: ["optimization.scheduler_type=\(scheduler)"])
    #expect((c.fingerprintValues["optimization.steps"] != nil) == counts)
  }
}
