import Datasets
import Foundation
import NN
import Support
import TensorFiles
import Torch
import Tracking

extension Trainer {
  /// The state as it is now, in tensors of its own.
  private func state(isMinimal: Bool) throws -> TrainingState {
    var tensors: [String: Tensor] = [:]
    if !isMinimal {
      for parameter in parameters { tensors[parameter.key] = try Self.copy(parameter.tensor) }
      for (key, tensor) in try optimization.optimizer.state + (average?.state ?? []) {
        tensors[key] = try Self.copy(tensor)
      }
    }
    return TrainingState(
      step: completedSteps, batches: completedSteps * batchesPerStep, skippedInARow: skippedInARow,
      lossScale: lossScale, fingerprint: fingerprint, trackerRunID: trackerRunID, tensors: tensors)
  }

  /// On the CPU, and not changed by later steps.
  private static func copy(_ tensor: Tensor) throws -> Tensor {
    let detached = try tensor.detach()
    return detached.device == .cpu ? try detached.clone() : try detached.to(.cpu)
  }

  private static func copy(_ values: [Parameter]) throws -> [Parameter] {
    try values.map { Parameter(key: $0.key, tensor: try copy($0.tensor)) }
  }

  /// Saves the weights, and the state as `checkpoints.save_training_state` says. The files are
  /// written while training goes on.
  ///
  /// - Parameter improved: the step's validation, where its loss is the lowest so far and
  ///   `checkpoints.keep_best` is set.
  /// - Parameter isRegular: whether the checkpoint is due anyway.
  func save(
    isLast: Bool, improved: ValidationRecord? = nil, isRegular: Bool = true,
    _ events: TrainingEvents
  ) throws {
    guard group.isMain else { return }
    let superseded = improved == nil ? nil : best
    if let improved, let validationSet {
      best = BestCheckpoint(
        improved, in: folder, validationSet: validationSet, isAveraged: average != nil,
        isExtra: !isRegular)
    }
    let (best, isBest) = (best, improved != nil)
    let c = configuration.checkpoints
    let step = completedSteps
    let weights = try Self.copy(parameters)
    let averaged = try average.map { try Self.copy($0.averaged) }
    let dtype: DType = c.precision == .bfloat16 ? .bfloat16 : .float32
    let state =
      c.saveTrainingState == .off ? nil : try state(isMinimal: c.saveTrainingState == .minimal)
    // The whole state goes with the weights: a minimal one beside them does not make up for it.
    let rolling = storesState ? try self.state(isMinimal: false) : nil
    let metadata = try savedMetadata
    let (folder, model, saved) = (folder, model, saved)
    let keepsNoState = c.saveTrainingState == .off
    saves.submit {
      try model.write(weights, dtype: dtype, metadata: metadata, to: folder.weights(step: step))
      if let averaged {
        try makeFolder(folder.averages)
        try model.write(
          averaged, dtype: dtype, metadata: metadata,
          to: folder.weights(step: step, in: folder.averages))
      }
      saved.add(folder.weights(step: step))
      try state?.write(to: folder.state(step: step), isDurable: true)
      if keepsNoState { try folder.removeStates() }
      try rolling?.write(to: folder.rollingState, isDurable: isLast)
      if isBest { try best?.write(to: folder.best) }
      try folder.prune(keeping: c.keepLastN, upTo: step, best: best, superseded: superseded)
    }
    if isLast { saves.waitUntilIdle() }
  }

  /// Tells which weights have been written since it was last called.
  func announceSaves(_ events: TrainingEvents) {
    for path in saved.take() { events.saved(path) }
  }

  /// Whether the state is kept up between checkpoints, so that a kill costs few steps: not where
  /// the user wants none, and not where it would fill the disk unasked.
  private var storesState: Bool {
    guard configuration.checkpoints.saveTrainingState != .off else { return false }
    return stateBytes <= 8 << 30
  }

  private var stateBytes: Int {
    // Weights, and what optimizers keep at most.
    parameters.reduce(0) { $0 + $1.tensor.byteCount } * 3
  }

  /// Stores the state, if the one before is written and storing takes no more of the run's time
  /// than `StatePacing` allows: after every step where steps are long, and about once a second
  /// where they are short.
  func storeState() throws {
    guard group.isMain, storesState, saves.isIdle, pacing.isDue else { return }
    let (pacing, path) = (pacing, folder.rollingState)
    let state = try pacing.measuring { try self.state(isMinimal: false) }
    // Whole or not at all matters here; that it survives a power cut does not, for it is soon
    // written again.
    saves.submit { try pacing.measuring { try state.write(to: path, isDurable: false) } }
  }

  /// Tells what could not be written, and ends the run or not, as the configuration says. What was
  /// saved before is there.
  ///
  /// - Parameter isLast: whether the run's result may be among it; where that is missing it is an
  ///   error in any case.
  func heedSaveErrors(isLast: Bool) throws {
    for error in saves.takeErrors() {
      let problem =
        "saving at step \(completedSteps) or before failed: \(describe(error)); earlier checkpoints are kept"
      let lacksResult =
        isLast && !FileManager.default.fileExists(atPath: folder.weights(step: completedSteps))
      guard configuration.checkpoints.onSaveError == .continue, !lacksResult else {
        throw Issue(problem)
      }
      warn(problem)
    }
  }

  /// Writes into the record of the run. Where that fails, the run ends or not, as for checkpoints;
  /// it is told once.
  func recording(_ body: () throws -> Void) throws {
    do {
      try body()
    } catch {
      guard configuration.checkpoints.onSaveError == .continue else { throw error }
      if !hasLostRecords { warn("\(describe(error)); training goes on, and its record has gaps") }
      hasLostRecords = true
    }
  }
}
