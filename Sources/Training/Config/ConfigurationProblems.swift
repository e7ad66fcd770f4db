import Support

/// All problems of a configuration, each with its position.
public struct ConfigurationProblems: Error, CustomStringConvertible, Sendable {
  public struct Problem: Sendable, Equatable {
    /// Nil if the problem has no position in the text.
    public let place: ConfigurationPlace?
    /// `optimization.steps`
    public let key: String
    public let message: String

    public var line: Int? { if case .text(let line, _) = place { line } else { nil } }
    public var column: Int? { if case .text(_, let column) = place { column } else { nil } }
  }

  public let file: String
  public let problems: [Problem]

  public var description: String {
    problems.map { problem in
      let start =
        switch problem.place {
        case .text(let line, let column): "\(file):\(line):\(column)"
        case .option(let text): "--set \(text)"
        case nil: file
        }
      return "\(start): \(problem.key.isEmpty ? "" : "\(problem.key) ")\(problem.message)"
    }.joined(separator: "\n")
  }
}

/// The position of a key in a configuration.
public enum ConfigurationPlace: Sendable, Equatable {
  /// Lines and columns count from 1.
  case text(line: Int, column: Int)
  /// A `--set` option, as it was given.
  case option(String)
}

/// Something that the user should know about a valid configuration.
public struct ConfigurationNotice: Sendable, Equatable, CustomStringConvertible {
  public let place: ConfigurationPlace?
  public let key: String
  public let message: String

  public var line: Int? { if case .text(let line, _) = place { line } else { nil } }
  public var description: String { "\(key)\(line.map { " (line \($0))" } ?? "") \(message)" }
}

/// The text that a configuration was loaded from.
public struct ConfigurationSource: Sendable {
  /// The file, for messages.
  public var file = "configuration"
  /// The positions of keys, by full names such as `lora.target_modules`.
  var places: [String: ConfigurationPlace] = [:]
  public var notices: [ConfigurationNotice] = []
}

/// The full name of a key, such as `lora.target_modules`.
///
/// Code outside of the reader names the keys of a configuration only by these constants.
public struct ConfigurationKey: Sendable, Equatable {
  let name: String

  static let weightPlacement = ConfigurationKey(name: "acceleration.weight_placement")
  static let shardDegree = ConfigurationKey(name: "acceleration.shard_degree")
  static let gradientCheckpointing = ConfigurationKey(
    name: "optimization.enable_gradient_checkpointing")
  static let memory = ConfigurationKey(name: "acceleration.memory")
  static let outputDir = ConfigurationKey(name: "output_dir")
  static let textEncoder = ConfigurationKey(name: "model.text_encoder_path")
  static let videoVAE = ConfigurationKey(name: "model.video_vae_path")
  static let audioVAE = ConfigurationKey(name: "model.audio_vae_path")
  static let startingWeights = ConfigurationKey(name: "model.load_checkpoint")
  static let trainableModules = ConfigurationKey(name: "model.trainable_modules")
  static let targetModules = ConfigurationKey(name: "lora.target_modules")
  static let steps = ConfigurationKey(name: "optimization.steps")
  static let batchSize = ConfigurationKey(name: "optimization.batch_size")
  static let warmupSteps = ConfigurationKey(name: "optimization.warmup_steps")
  static let optimization = ConfigurationKey(name: "optimization")
  static let learningRates = ConfigurationKey(name: "optimization.learning_rates")
  static let optimizerOptions = ConfigurationKey(name: "optimization.optimizer_params")
  static let scheduleOptions = ConfigurationKey(name: "optimization.scheduler_params")
  static let timestepOptions = ConfigurationKey(name: "flow_matching.timestep_sampling_params")
  static let mixedPrecision = ConfigurationKey(name: "acceleration.mixed_precision_mode")
  static let captionDropout = ConfigurationKey(name: "data.caption_dropout")
  static let heldOutCount = ConfigurationKey(name: "validation.held_out.count")
}

extension SubjectTable {
  /// The keys of the configuration, by the subjects of training.
  public static let trainingConfiguration: SubjectTable = [
    ["checkpoint"]: "model.model_path",
    ["textEncoder"]: "model.text_encoder_path",
    ["videoVAE"]: "model.video_vae_path",
    ["audioVAE"]: "model.audio_vae_path",
    ["start"]: "model.load_checkpoint",
    ["output"]: "output_dir",
    ["acceptsOtherModel"]: "data.accept_other_model",
    ["startsOver"]: "checkpoints.no_resume",
    ["savedState"]: "checkpoints.save_training_state",
    ["offloadsOptimizer"]: "acceleration.offload_optimizer_during_validation",
    ["heldOut"]: "validation.held_out.count",
  ]
}

extension TrainingConfiguration {
  /// Whether the text that the configuration was loaded from has a key, or the older key that it
  /// replaces.
  func gives(_ key: ConfigurationKey) -> Bool {
    source.places[key.name] != nil
      || key.name.hasSuffix(".downscale_factor")
        && source.places["validation.reference_downscale_factor"] != nil
  }

  /// Notes, such as how older keys were read.
  public var notices: [ConfigurationNotice] { source.notices }

  /// Returns a problem with a value that is found after reading, with its position in the file.
  ///
  /// If the file lacks the key, the problem is reported at its section.
  public func problem(_ key: ConfigurationKey, _ message: String) -> ConfigurationProblems {
    var parts = key.name.split(separator: ".")
    var place = source.places[key.name]
    while place == nil, !parts.isEmpty {
      parts.removeLast()
      place = source.places[parts.joined(separator: ".")]
    }
    return ConfigurationProblems(
      file: source.file, problems: [.init(place: place, key: key.name, message: message)])
  }
}
