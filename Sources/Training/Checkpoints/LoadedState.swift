import Datasets
import Foundation
import Support
import TensorFiles

/// The training state next to the weights of `model.load_checkpoint`. Like the official trainer, a
/// run resumes from it in any output folder if a few keys of both runs agree.
struct LoadedState {
  let path: String
  let step: Int
  /// The values of configuration keys that the file holds.
  let values: [String: String]
  /// The complete state; nil for a file of the official trainer.
  let own: TrainingState?

  static let keys = [
    "optimization.optimizer_type", "optimization.scheduler_type", "model.training_mode",
    "lora.rank",
  ]

  /// Loads the state that belongs to a weights file.
  ///
  /// - Parameter weights: `…_step_00020.safetensors`; its state is `training_state_step_00020`, in
  ///   our format or the official trainer's.
  /// - Returns: nil if no such file exists.
  /// - Throws: the error of a file that exists but can't be used.
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
        throw Issue([.file(path)], "has a global_step that is not a step count")
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
  /// Resumes where the run of `model.load_checkpoint` stopped, if its state lies next to the
  /// weights and the runs agree.
  ///
  /// - Returns: the path of the state.
  func resumeFromLoadedState() throws -> String? {
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
        "\(loaded.path) is from a run with a different \(mismatches.joined(separator: ", ")); training starts at step 0 with its "
          + "weights. Set `startsOver` to true if that is intended")
      return nil
    }
    guard loaded.step < configuration.optimization.steps else {
      throw configuration.problem(
        .steps,
        "is \(configuration.optimization.steps), but the run of \(loaded.path) has completed \(loaded.step) steps. Increase it, "
          + "or set `startsOver` to true to start at step 0 with its weights")
    }
    if let own = loaded.own, !own.isMinimal {
      do {
        try restore(own, from: loaded.path)
      } catch {
        warn("\(describe(error)); training starts at step 0 with the weights of \(weights)")
        return nil
      }
      // Trackers treat another output folder as another run.
      trackerRunID = nil
    } else {
      completedSteps = loaded.step
      warn("\(loaded.path) has no readable optimizer state; the optimizer starts from scratch")
    }
    return loaded.path
  }
}
