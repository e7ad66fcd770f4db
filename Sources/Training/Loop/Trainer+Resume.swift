import Datasets
import Foundation
import LTX
import NN
import TensorFiles
import Torch

extension Trainer {
  /// What an output folder that holds a run already means.
  public enum EarlierRun: Sendable {
    /// Go on with it, if it is the same run.
    case resume
    /// Remove it and start over.
    case overwrite
  }

  /// Goes on from what an earlier start of the run has stored, if there is any: from the newest state that is whole.
  ///
  /// - Returns: the file that the run goes on from.
  /// - Throws: `DatasetError` when the folder holds another run.
  public func prepareFolder(_ earlier: EarlierRun) throws -> String? {
    if earlier == .overwrite {
      if group.isMain { try folder.removeRun() }
      try group.barrier()
      return nil
    }
    if configuration.checkpoints.noResume { return nil }
    let found = try folder.newestState { warn($0) }
    guard let (state, path) = found else {
      guard try !folder.isTaken(for: fingerprint) else {
        throw DatasetError(
          path: folder.path,
          problem:
            "holds a run without a state to go on from; choose another output_dir, or give --overwrite to "
            + "replace it")
      }
      return try takeUpLoadedState()
    }
    let differences = fingerprint.differences(from: state.fingerprint)
    if let first = differences.first(where: { $0 != "optimization.steps" }) {
      throw DatasetError(
        path: folder.path,
        problem:
          "holds another run (\(fingerprint.words(first, from: state.fingerprint))); choose another output_dir, or "
          + "give --overwrite to replace it")
    }
    guard state.step <= configuration.optimization.steps else {
      throw configuration.problem(
        "optimization.steps",
        "is \(configuration.optimization.steps), but the run in \(folder.path) has done \(state.step) steps; "
          + "set it to more, or choose another output_dir")
    }
    if let steps = differences.first {
      warn(
        "\(fingerprint.words(steps, from: state.fingerprint)): the learning rate goes on by the new schedule, not by the one "
          + "that the steps before had")
    }
    try restore(state, from: path)
    return path
  }

  func restore(_ state: TrainingState, from path: String) throws {
    if state.isMinimal {
      try restoreWeights(of: state)
    } else {
      func load(_ key: String) throws -> Tensor {
        guard let tensor = state.tensors[key] else {
          throw DatasetError(path: path, problem: "has no \(key); the state is of another version")
        }
        return tensor
      }
      try withoutGrad {
        for parameter in parameters { try parameter.tensor.copy_(load(parameter.key)) }
      }
      try optimization.optimizer.restore(load)
      try average?.restore(load)
    }
    completedSteps = state.step
    skippedInARow = state.skippedInARow
    lossScale = state.lossScale ?? lossScale
    trackerRunID = state.trackerRunID
  }

  /// Of a minimal state there are only the saved weights; the optimiser starts anew, as in the official trainer.
  private func restoreWeights(of state: TrainingState) throws {
    let path = folder.weights(step: state.step)
    try model.restore(parameters, from: path)
    warn(
      "going on from \(path) without the optimiser's state, which checkpoints.save_training_state leaves out: the "
        + "run won't be the one that was not interrupted")
  }
}

extension TrainedModel {
  /// Gives the trained tensors the values of a file that the run has saved.
  func restore(_ parameters: [Parameter], from path: String) throws {
    var values: [String: Tensor] = [:]
    if let adapterScale {
      let initial = try LoRAFile(path: path).initialAdapters(scale: adapterScale)
      for (module, value) in initial.values {
        values["\(module).lora_A.weight"] = value.down
        values["\(module).lora_B.weight"] = value.up
        values["\(module).lora_magnitude_vector"] = value.magnitude
      }
    } else {
      let source = try checkpoint.replacingTransformer(by: path).source
      for parameter in parameters { values[parameter.key] = try source.tensor(parameter.key) }
    }
    try withoutGrad {
      for parameter in parameters {
        guard let value = values[parameter.key] else {
          throw DatasetError(path: path, problem: "has no \(parameter.key)")
        }
        try parameter.tensor.copy_(value)
      }
    }
  }
}
