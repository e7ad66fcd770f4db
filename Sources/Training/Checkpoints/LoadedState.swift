import Datasets
import Foundation
import Support
import TensorFiles

/// The state that lies beside the weights of `model.load_checkpoint`: the official trainer takes a
/// run up there, in whatever output folder, if both runs agree in a few keys.
struct LoadedState {
  let path: String
  let step: Int
  /// By key of the configuration, as far as the file tells.
  let values: [String: String]
  /// All of it, where it is ours.
  let own: TrainingState?

  static let keys = [
    "optimization.optimizer_type", "optimization.scheduler_type", "model.training_mode",
    "lora.rank",
  ]

  /// - Parameter weights: `…_step_00020.safetensors`; its state is `training_state_step_00020`, in
  ///   our format or the official trainer's.
  /// - Returns: nil where there is none.
  /// - Throws: what is wrong with a file that is there.
  init?(beside weights: String) throws {
    let folder = (weights as NSString).deletingLastPathComponent
    let name = (weights as NSString).lastPathComponent
    guard let mark = name.range(of: "step_", options: .backwards) else { return nil }
    let number = name[mark.upperBound...].prefix { $0.isNumber }
    let stem = (folder.isEmpty ? "." : folder) + "/training_state_step_\(number)"
    if FileManager.default.fileExists(atPath: stem + ".safetensors") {
      path = stem + ".safetensors"
      let state = try TrainingState(path: path)
      own = state
      step = state.step
      values = Dictionary(
        Self.keys.compactMap { key in state.fingerprint.value(key).map { (key, $0) } },
        uniquingKeysWith: { $1 })
    } else if FileManager.default.fileExists(atPath: stem + ".pt") {
      path = stem + ".pt"
      own = nil
      let file = try TorchFile(path: path)
      guard let number = Int(exactly: try file.number("global_step")), number >= 0 else {
        throw DatasetError(path: path, problem: "has a global_step that is no number of steps")
      }
      step = number
      let stored = file.root["config_fingerprint"]
      values = Dictionary(
        Self.keys.compactMap { key in
          let value = stored?[String(key.split(separator: ".").last ?? "")]
          return (value?.string ?? value?.number.flatMap { Int(exactly: $0) }.map(String.init)).map
          {
            (key, $0)
          }
        }, uniquingKeysWith: { $1 })
    } else {
      return nil
    }
  }
}

extension Trainer {
  /// Goes on where the run of `model.load_checkpoint` was, if its state lies beside it and the runs
  /// agree.
  ///
  /// - Returns: the state's file.
  func takeUpLoadedState() throws -> String? {
    guard let weights = model.start?.path else { return nil }
    let loaded: LoadedState
    do {
      guard let found = try LoadedState(beside: weights) else { return nil }
      loaded = found
    } catch {
      warn("\(describe(error)); training starts at step 0 with the weights of \(weights)")
      return nil
    }
    let mismatches = LoadedState.keys.filter { key in
      loaded.values[key].map { $0 != fingerprint.value(key) } ?? false
    }
    guard mismatches.isEmpty else {
      warn(
        "\(loaded.path) is of a run with another \(mismatches.joined(separator: ", ")); training starts at step 0 with its "
          + "weights. Set checkpoints.no_resume to true where that is meant")
      return nil
    }
    guard loaded.step < configuration.optimization.steps else {
      throw configuration.problem(
        "optimization.steps",
        "is \(configuration.optimization.steps), but the run of \(loaded.path) has done \(loaded.step) steps; set it to more, "
          + "or checkpoints.no_resume to true to begin at step 0 with its weights")
    }
    if let own = loaded.own, !own.isMinimal {
      do {
        try restore(own, from: loaded.path)
      } catch {
        warn("\(describe(error)); training starts at step 0 with the weights of \(weights)")
        return nil
      }
      // Another output folder is another run there.
      trackerRunID = nil
    } else {
      completedSteps = loaded.step
      warn("\(loaded.path) has no optimizer state that can be read; the optimizer starts anew")
    }
    return loaded.path
  }
}
