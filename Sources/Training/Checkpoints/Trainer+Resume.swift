import Datasets
import Foundation
import LTX
import LoRAFiles
import NN
import Support
import TensorFiles
import Torch

extension Trainer {
  /// The handling of an output folder that already holds a run.
  public enum EarlierRun: Sendable {
    /// Resume it, if it is the same run.
    case resume
    /// Remove it and start over.
    case overwrite
  }

  /// Resumes an earlier start of the run, if there is one, from its newest undamaged state.
  ///
  /// - Returns: the path of the state; nil for a new run.
  /// - Throws: `Issue` if the folder holds another run.
  public func prepareFolder(_ earlier: EarlierRun) throws -> String? {
    let path = try resumeState(earlier)
    try requireSameStart()
    return path
  }

  /// Checks that all ranks start from the same state: if they saw different files, they would train
  /// different weights together.
  private func requireSameStart() throws {
    guard group.worldSize > 1 else { return }
    var checksum = Checksum()
    for parameter in parameters where parameter.shard == nil {
      try checksum.add(parameter.key, parameter.tensor.detach().to(.cpu))
    }
    try group.requireSame([
      ("completed steps:", "\(completedSteps)"), ("a run with other values:", fingerprint.lines),
      ("weights with the checksum", String(checksum.value, radix: 16)),
    ])
  }

  private func resumeState(_ earlier: EarlierRun) throws -> String? {
    if earlier == .overwrite {
      if group.isMain { try folder.removeRun(startingFrom: model.start?.path) }
      try group.barrier()
      return configuration.checkpoints.noResume ? nil : try resumeFromLoadedState()
    }
    if configuration.checkpoints.noResume { return nil }
    let found = try folder.newestState { state in
      if state.isMinimal { _ = try model.values(of: folder.weights(step: state.step), parameters) }
    } warn: {
      warn($0)
    }
    guard let (state, path) = found else {
      guard try !folder.isTaken(for: fingerprint) else {
        throw taken("holds a run without a state to resume from")
      }
      return try resumeFromLoadedState()
    }
    if let moved = fingerprint.movedToOtherRanks(from: state.fingerprint) {
      try keepBatches(of: moved)
    }
    // A run may name its own folder as its start, which is usual with the official trainer.
    let isOwnStart = model.start.map { folder.holds($0.path) } ?? false
    let differences = fingerprint.differences(from: state.fingerprint).filter {
      !(isOwnStart && $0 == "model.load_checkpoint")
    }
    if let first = differences.first(where: { $0 != "optimization.steps" }) {
      throw taken("holds another run (\(fingerprint.words(first, from: state.fingerprint)))")
    }
    guard state.step <= configuration.optimization.steps else {
      throw configuration.problem(
        .steps,
        "is \(configuration.optimization.steps), but the run in \(folder.path) has completed "
          + "\(state.step) steps. Increase it, or choose another output folder (`output`)")
    }
    if let steps = differences.first {
      warn(
        "\(fingerprint.words(steps, from: state.fingerprint)): the learning rate continues with the new schedule, not with the one "
          + "of the previous steps")
    }
    try restore(state, from: path)
    return path
  }

  /// Keeps the batches of each step on another number of ranks, so that the results are the same up
  /// to rounding.
  private func keepBatches(of moved: RunFingerprint) throws {
    guard let batches = moved.batchesPerStep else { return }
    guard batches >= group.worldSize else {
      throw taken(
        "holds a run with \(batches) batches in each step, too few for \(group.worldSize) ranks")
    }
    guard !sharesModel || batches.isMultiple(of: group.worldSize) else {
      throw configuration.problem(
        .weightPlacement,
        "is sharded, so each step needs as many batches on every rank, but the run has \(batches) for "
          + "\(group.worldSize) ranks")
    }
    (fingerprint, batchesPerStep) = (moved, batches)
    if group.isMain {
      warn(
        "the run continues on another number of ranks; its steps keep their batches, "
          + "\(batches) in each")
    }
  }

  private func taken(_ problem: String) -> Issue {
    Issue(
      [.file(folder.path)], problem,
      suggestion: "Choose another output folder (`output`), or replace the run with `overwrite`.")
  }

  func restore(_ state: TrainingState, from path: String) throws {
    if state.isMinimal {
      try restoreWeights(of: state)
    } else {
      let own = Dictionary(
        try optimization.optimizer.state + (average?.state ?? [])
          + parameters.map { (key: $0.key, tensor: $0.tensor) }
      ) { first, _ in first }
      func load(_ key: String) throws -> Tensor {
        guard let tensor = try state.tensors[key] else {
          throw Issue([.file(path)], "has no \(key); another version wrote the state")
        }
        return try self.own(tensor, of: key, filling: own[key])
      }
      // Missing tensors are found before anything is changed.
      for parameter in parameters { _ = try load(parameter.key) }
      for (key, _) in try optimization.optimizer.state + (average?.state ?? []) {
        _ = try load(key)
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

  /// Restores the saved weights of a minimal state, which has nothing else. The optimizer starts
  /// from scratch, as in the official trainer.
  private func restoreWeights(of state: TrainingState) throws {
    let path = folder.weights(step: state.step)
    let values = try model.values(of: path, parameters)
    try withoutGrad {
      for parameter in parameters {
        guard let value = values[parameter.key] else { continue }
        try parameter.tensor.copy_(own(value, of: parameter.key, filling: parameter.tensor))
      }
    }
    // The average has a file of its own; without it, averaging restarts from the weights.
    let averages = folder.weights(step: state.step, in: folder.averages)
    let averaged =
      FileManager.default.fileExists(atPath: averages)
      ? try model.values(of: averages, parameters) : values
    try average?.restore { key in
      guard key.hasSuffix(".ema"), let value = averaged[String(key.dropLast(4))] else {
        return try Tensor([Int64(state.step)], shape: [])
      }
      let parameter = self.shardedParameters[String(key.dropLast(4))]
      return try self.own(value, of: key, filling: parameter?.tensor)
    }
    warn(
      "resuming from \(path) without the optimizer's state, which `savedState` omits: the result "
        + "will differ from an uninterrupted run")
  }
}

extension TrainedModel {
  /// Returns the values of the trained tensors in a file that the run has saved.
  ///
  /// - Throws: `Issue` if a tensor is missing or has another shape; the errors of reading
  ///   the file.
  func values(of path: String, _ parameters: [Parameter]) throws -> [String: Tensor] {
    var values: [String: Tensor] = [:]
    if let adapterScale {
      let initial = try LoRAFile(path: path).initialAdapters(scale: adapterScale)
      for (module, adapter) in initial.adapters {
        for (role, tensor) in adapter.tensors { values["\(module).\(role)"] = tensor }
      }
    } else {
      let source = try checkpoint.replacingTransformer(by: path).source
      for parameter in parameters { values[parameter.key] = try source.tensor(parameter.key) }
    }
    for parameter in parameters {
      guard let value = values[parameter.key], value.shape == parameter.shape else {
        throw Issue([.file(path)], "has no \(parameter.key) of shape \(parameter.shape)")
      }
    }
    return values
  }
}
