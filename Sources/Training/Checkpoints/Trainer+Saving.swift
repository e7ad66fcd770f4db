import Datasets
import Foundation
import NN
import Support
import TensorFiles
import Torch
import Tracking

extension Trainer {
  /// Returns the current state, with tensors as `contents` has them.
  private func state(isMinimal: Bool, _ exchange: inout PartExchange) throws -> TrainingState {
    let trained = parameters.map { (key: $0.key, tensor: $0.tensor) }
    let tensors =
      isMinimal
      ? WholeTensors([])
      : try contents(
        trained + optimization.optimizer.state + (average?.state ?? []), &exchange)
    return TrainingState(
      step: completedSteps, batches: completedSteps * batchesPerStep, skippedInARow: skippedInARow,
      lossScale: lossScale, fingerprint: fingerprint, trackerRunID: trackerRunID, tensors: tensors)
  }

  /// Writes files on the first rank: while training continues, or at once if all ranks send their
  /// parts.
  private func write(
    _ exchange: PartExchange, _ job: @escaping @Sendable () throws -> Void
  ) throws {
    guard sharesTrainedWeights else { return saves.submit(job) }
    saves.waitUntilIdle()
    guard let result = try exchange.lead(job) else { return }
    // An error is reported with those of other saves.
    saves.submit { try result.get() }
  }

  /// Saves the weights, and the state according to `checkpoints.save_training_state`. The files are
  /// written while training continues, unless trained tensors are divided among ranks.
  ///
  /// - Parameters:
  ///   - improved: the step's validation, if its loss is the lowest so far and
  ///     `checkpoints.keep_best` is set.
  ///   - isRegular: whether the checkpoint is due anyway.
  func save(
    isLast: Bool, improved: ValidationRecord? = nil, isRegular: Bool = true,
    _ events: TrainingEvents
  ) throws {
    guard takesPartInSaving else { return }
    let superseded = improved == nil ? nil : best
    if let improved, let validationSet {
      best = BestCheckpoint(
        improved, in: folder, validationSet: validationSet, isAveraged: average != nil,
        isExtra: !isRegular)
    }
    let (best, isBest) = (best, improved != nil)
    let c = configuration.checkpoints
    let step = completedSteps
    var exchange = PartExchange(mesh.shards)
    let weights = try contents(parameters, &exchange)
    let averaged = try average.map { try contents($0.averaged, &exchange) }
    let dtype: DType = c.precision == .bfloat16 ? .bfloat16 : .float32
    let state =
      c.saveTrainingState == .off
      ? nil : try state(isMinimal: c.saveTrainingState == .minimal, &exchange)
    // The full state is written with the weights: a minimal state next to them does not replace it.
    let rolling = storesState ? try self.state(isMinimal: false, &exchange) : nil
    let metadata = group.isMain ? try savedMetadata : [:]
    let (folder, model, saved) = (folder, model, saved)
    let keepsNoState = c.saveTrainingState == .off
    try write(exchange) {
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

  /// Reports the weights that have been written since the last call.
  func announceSaves(_ events: TrainingEvents) {
    for path in saved.take() { events.saved(path) }
  }

  /// Whether the state is also stored between checkpoints, so that a kill costs few steps. It is
  /// not stored if the user wants no states, or if it might fill the disk.
  private var storesState: Bool {
    guard configuration.checkpoints.saveTrainingState != .off else { return false }
    return stateBytes <= 8 << 30
  }

  private var stateBytes: Int {
    // The weights, and the most that optimizers keep.
    parameters.reduce(0) { $0 + $1.shape.reduce(1, *) * $1.tensor.dtype.size } * 3
  }

  /// Stores the state if the previous one is written and `StatePacing` allows it: after every step
  /// if steps are long, and about once a second if they are short.
  func storeState() throws {
    // If all ranks take part, the first one has announced it during the step.
    let isDue = sharesTrainedWeights ? signals.contains(.storesState) : isStateDue
    guard takesPartInSaving, isDue else { return }
    let (pacing, path) = (pacing, folder.rollingState)
    var exchange = PartExchange(mesh.shards)
    let state = try pacing.measuring { try self.state(isMinimal: false, &exchange) }
    // The file must be complete or absent, but needn't survive a power cut, because it is soon
    // written again.
    try write(exchange) { try pacing.measuring { try state.write(to: path, isDurable: false) } }
  }

  /// Whether the first rank stores the state after this step. If so, a new one begins.
  var isStateDue: Bool { group.isMain && storesState && saves.isIdle && pacing.isDue }

  /// Reports failed writes, and ends the run if the configuration says so. Earlier checkpoints are
  /// intact.
  ///
  /// - Parameter isLast: whether the run's result may be among the failed files; a missing result
  ///   is always an error.
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

  /// Writes to the run's record. A failure is reported once, and ends the run if a failed
  /// checkpoint would.
  func recording(_ body: () throws -> Void) throws {
    do {
      try body()
    } catch {
      guard configuration.checkpoints.onSaveError == .continue else { throw error }
      if !hasLostRecords { warn("\(describe(error)); training continues, and its record has gaps") }
      hasLostRecords = true
    }
  }
}
