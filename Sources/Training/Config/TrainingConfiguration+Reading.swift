import BlockExecution
import Foundation
import LTX
import NN
import Support

extension TrainingConfiguration {
  /// Loads a file and checks all of it, without loading a model.
  ///
  /// - Parameters:
  ///   - overrides: `KEY=VALUE` strings such as `optimization.steps=50`; the last one for a key
  ///     wins.
  ///   - checksPaths: whether named files and folders must exist.
  /// - Throws: `ConfigurationProblems` with all problems, each with its line or option.
  public init(path: String, overrides: [String] = [], checksPaths: Bool = true) throws {
    try self.init(
      yaml: ConfigurationParser.text(ofFile: path), file: path, overrides: overrides,
      checksPaths: checksPaths)
  }

  /// Loads a file, with the settings that another file implies where this one has none.
  ///
  /// - Throws: `ConfigurationProblems`; also if the two files contradict each other.
  public init(
    path: String, overrides: [String] = [], distributed: DistributedSettings
  ) throws {
    let given = try TrainingConfiguration(path: path, overrides: overrides)
    let implied = try distributed.overrides(for: given)
    self =
      implied.isEmpty
      ? given : try TrainingConfiguration(path: path, overrides: overrides + implied)
    source.notices += distributed.trainingNotices(implied, given)
  }

  /// - Parameter file: the name for messages; relative paths in the text are relative to the
  ///   working directory.
  public init(yaml: String, file: String, overrides: [String] = [], checksPaths: Bool = true) throws
  {
    let (entries, unreadable) = try Self.entries(yaml, file, overrides)
    let reading = ConfigurationReading(file: file, checksPaths: checksPaths)
    self.init(reading: SectionReader(entries, path: "", place: .text(line: 1, column: 1), reading))
    outputDir = URL(fileURLWithPath: outputDir).standardizedFileURL.path
    source = reading.source
    let problems = reading.problems + unreadable
    if !problems.isEmpty { throw ConfigurationProblems(file: file, problems: problems.inOrder) }
  }

  /// The keys of a text after overrides, and the invalid overrides.
  static func entries(
    _ yaml: String, _ file: String, _ overrides: [String] = []
  ) throws -> ([ConfigurationNode.Entry], [ConfigurationProblems.Problem]) {
    func notSections(_ place: ConfigurationPlace?) -> ConfigurationProblems {
      ConfigurationProblems(
        file: file,
        problems: [
          .init(
            place: place ?? .text(line: 1, column: 1), key: "",
            message: "is not a YAML mapping of sections")
        ])
    }
    guard var root = try ConfigurationParser.parse(yaml, .file(file)) else {
      throw notSections(nil)
    }
    var problems: [ConfigurationProblems.Problem] = []
    for option in overrides {
      do {
        try ConfigurationOverride(option).apply(to: &root)
      } catch let error as ConfigurationProblems {
        problems += error.problems
      }
    }
    guard case .mapping(let entries) = root.content else { throw notSections(root.place) }
    return (entries, problems)
  }

  /// Checks between sections, as in the official trainer.
  mutating func complete(_ reader: SectionReader) {
    checkStrategy(reader)
    checkQuantization(reader)
    checkPlacement(reader)
    checkDataFolders(reader)
    if checkpoints.keepBest, !validation.heldOut.isUsed {
      reader.report(
        "checkpoints",
        "keep_best is true, but no validation loss is measured to choose by. Set validation.held_out.count to the "
          + "number of samples to hold out, or validation.held_out.preprocessed_data_root to a dataset"
      )
    }
  }

  private func checkQuantization(_ reader: SectionReader) {
    guard let quantization = acceleration.quantization else { return }
    if model.trainingMode == .full {
      reader.report(
        "acceleration",
        "quantization keeps frozen weights in fewer bits; training_mode full trains them, so set it to null"
      )
    }
    do {
      _ = try quantization.storage()
    } catch {
      reader.report("acceleration", "quantization: \(describe(error))")
    }
  }

  /// The treatment of the blocks' activations.
  var activations: ActivationPolicy {
    acceleration.activations
      ?? (optimization.enableGradientCheckpointing ? .recompute : .keep)
  }

  private func checkPlacement(_ reader: SectionReader) {
    if acceleration.shardDegree != nil, acceleration.weightPlacement != .sharded {
      reader.report(
        "acceleration",
        "shard_degree divides sharded weights, but weight_placement is "
          + "\(acceleration.weightPlacement.rawValue); set it to sharded, or remove shard_degree")
    }
    guard acceleration.weightPlacement != .resident else { return }
    if model.trainingMode == .full, model.trainableModules == nil,
      acceleration.weightPlacement != .sharded
    {
      reader.report(
        "acceleration",
        "weight_placement is for frozen weights; training_mode full trains all of them, so set it "
          + "to resident or name model.trainable_modules")
    }
    if activations == .keep {
      reader.report(
        "acceleration",
        "weight_placement \(acceleration.weightPlacement.rawValue) loads the weights again for the "
          + "backward pass, so activations can't be kept. Set "
          + "optimization.enable_gradient_checkpointing to true")
    }
  }

  private func checkStrategy(_ reader: SectionReader) {
    if model.trainingMode == .lora, lora == nil, !reader.has("lora") || reader.isNull("lora") {
      reader.report("lora", "is missing; training_mode lora needs this section")
    }
    guard case .videoToVideo = trainingStrategy else { return }
    if model.trainingMode != .lora {
      reader.report("training_strategy", "is video_to_video, which needs model.training_mode lora")
    }
    let hasReference = validation.samples.contains { sample in
      sample.conditions.contains { $0.type == "reference" }
    }
    if validation.interval != nil, !hasReference {
      reader.report(
        "validation",
        "needs a sample with a reference condition (or reference_videos) for the strategy video_to_video; "
          + "set validation.interval to null for no samples")
    }
  }

  /// Checks that the folders that the strategy reads exist, if the root does.
  private func checkDataFolders(_ reader: SectionReader) {
    let root = data.preprocessedDataRoot
    guard reader.reading.checksPaths, !root.isEmpty, isFolder(root) else { return }
    let nested = root + "/.precomputed"
    let base = FileManager.default.fileExists(atPath: nested) ? nested : root
    for source in trainingStrategy.dataSources {
      let path = source.folder.hasPrefix("/") ? source.folder : "\(base)/\(source.folder)"
      if !isFolder(path) {
        reader.report(
          "data",
          "preprocessed_data_root has no folder \(source.folder), which the strategy \(trainingStrategy.name) reads: "
            + path)
      }
    }
  }
}

extension [ConfigurationProblems.Problem] {
  /// The problems in the order of the text, followed by those of options.
  var inOrder: [ConfigurationProblems.Problem] {
    func rank(_ index: Int) -> (Int, Int, Int) {
      switch self[index].place {
      case .text(let line, let column): (line, column, index)
      case .option: (.max, 0, index)
      case nil: (0, 0, index)
      }
    }
    return indices.sorted { rank($0) < rank($1) }.map { self[$0] }
  }
}

extension TrainingConfiguration: Equatable {
  /// Two configurations are equal if their values are; their sources don't count.
  public static func == (a: Self, b: Self) -> Bool { a.written == b.written }
}
