import LoRAFiles
import Support

/// All keys of a configuration, for suggestions if a key is written without its section or in
/// another one.
extension TrainingConfiguration {
  /// The full keys, such as `optimization.steps`, by their last part.
  private static let fullKeys: [String: [String]] = {
    var keys: [String: [String]] = [:]
    func add(_ value: ConfigurationValue, _ path: String) {
      guard case .mapping(let entries) = value else { return }
      for entry in entries {
        let full = path.isEmpty ? entry.key : "\(path).\(entry.key)"
        keys[entry.key, default: []].append(full)
        add(entry.value, full)
      }
    }
    var all = TrainingConfiguration()
    all.lora = all.lora ?? LoRA()
    add(all.written, "")
    return keys
  }()

  /// The names of keys in other trainers.
  private static let otherNames = [
    "lr": "learning_rate", "max_steps": "steps", "max_train_steps": "steps", "num_steps": "steps",
    "train_steps": "steps", "iterations": "steps", "epochs": "steps", "num_epochs": "steps",
    "network_dim": "rank", "network_alpha": "alpha", "train_batch_size": "batch_size",
    "gradient_checkpointing": "enable_gradient_checkpointing", "optimizer": "optimizer_type",
    "scheduler": "scheduler_type", "lr_scheduler": "scheduler_type",
    "resume_from_checkpoint": "load_checkpoint", "save_every": "interval", "output": "output_dir",
    "output_path": "output_dir", "dataset": "preprocessed_data_root",
    "data_root": "preprocessed_data_root",
  ]

  /// The keys of other sections with the same last part; nil without any, or with too many for a
  /// suggestion.
  static func keys(named name: String) -> [String]? {
    guard let keys = fullKeys[otherNames[name] ?? name], keys.count <= 3 else { return nil }
    return keys
  }

  /// The keys of other sections with a similar last part.
  static func keys(near name: String) -> [String]? {
    NearestName.find(name, in: fullKeys.keys.sorted()).flatMap { keys(named: $0) }
  }
}
