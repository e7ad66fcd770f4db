import Foundation
import LoRAFiles
import NN
import Yams

extension TrainingConfiguration {
  /// The whole configuration with every default, as YAML that reads back to an equal value.
  ///
  /// The official trainer reads it too; keys of ours that have their default are left out.
  public var resolvedYAML: String {
    get throws { try Yams.serialize(node: official.yaml, width: -1, allowUnicode: true) }
  }

  /// The same for records of runs, with all keys.
  public var json: JSONValue { written.json }

  /// `written` without keys of ours that have their default.
  private var official: ConfigurationValue {
    Self.removing(Self.own, from: written, path: "", defaults: Self().written)
  }

  /// Keys that the official trainer doesn't know.
  static let own: Set<String> = [
    "model.trainable_modules", "data.accept_other_model", "lora.use_rslora", "lora.use_dora",
    "optimization.optimizer_params",
    "optimization.warmup_steps", "optimization.learning_rates", "optimization.ema_decay",
    "optimization.max_skipped_steps", "validation.held_out", "checkpoints.keep_best",
    "checkpoints.on_save_error", "wandb.mode",
    "tensorboard", "report",
  ]

  private static func removing(
    _ keys: Set<String>, from value: ConfigurationValue, path: String, defaults: ConfigurationValue?
  ) -> ConfigurationValue {
    guard case .mapping(let entries) = value else { return value }
    return .mapping(
      entries.compactMap { entry in
        let key = path.isEmpty ? entry.key : "\(path).\(entry.key)"
        let usual = key.hasPrefix("lora.") ? LoRA().written[entry.key] : defaults?[entry.key]
        if keys.contains(key), entry.value == usual { return nil }
        return .init(entry.key, removing(keys, from: entry.value, path: key, defaults: usual))
      })
  }

  /// What the numbers of a run follow from, by key: a run goes on only from a state in which all of
  /// it is equal.
  ///
  /// Left out is what only changes where results go, what is looked at on the way, and how fast the
  /// same is computed. The number of steps counts where the schedule of the learning rate depends
  /// on it.
  public var fingerprintValues: [String: String] {
    var values: [String: String] = [:]
    func add(_ value: ConfigurationValue, _ path: String) {
      if Self.withoutEffect.contains(where: { path == $0 || path.hasPrefix("\($0).") }) { return }
      guard case .mapping(let entries) = value, !entries.isEmpty else {
        values[path] = value.line
        return
      }
      for entry in entries { add(entry.value, path.isEmpty ? entry.key : "\(path).\(entry.key)") }
    }
    add(written, "")
    if optimization.scheduleIsIndependentOfSteps { values["optimization.steps"] = nil }
    // Samples that are taken out of the training set change it; the dataset's own fingerprint tells
    // which are left.
    return values
  }

  /// The model, the weights that training starts from and the dataset count by their contents.
  private static let withoutEffect = [
    "model.model_path", "model.text_encoder_path", "model.video_vae_path", "model.audio_vae_path",
    "model.load_checkpoint", "data", "validation", "checkpoints", "hub", "wandb", "tensorboard",
    "report",
    "output_dir",
    "acceleration.load_text_encoder_in_8bit", "acceleration.offload_optimizer_during_validation",
    "optimization.enable_gradient_checkpointing", "optimization.max_skipped_steps",
  ]
}

extension TrainingConfiguration.Optimization {
  /// Whether a longer run begins as a shorter one does.
  fileprivate var scheduleIsIndependentOfSteps: Bool {
    switch schedulerType {
    case .constant: true
    case .cosineWithRestarts: schedulerParams["T_0"] != nil
    case .step: schedulerParams["step_size"] != nil
    case .linear, .cosine, .polynomial: false
    }
  }
}

extension ConfigurationValue {
  fileprivate subscript(key: String) -> ConfigurationValue? {
    guard case .mapping(let entries) = self else { return nil }
    return entries.first { $0.key == key }?.value
  }

  /// In one line, for comparing and for messages.
  fileprivate var line: String {
    switch self {
    case .null: "null"
    case .bool(let value): "\(value)"
    case .int(let value): "\(value)"
    case .double(let value): "\(value)"
    case .string(let value): value
    case .list(let values): "[\(values.map(\.line).joined(separator: ", "))]"
    case .mapping(let entries):
      "{\(entries.map { "\($0.key): \($0.value.line)" }.joined(separator: ", "))}"
    }
  }
}
