import Datasets
import Foundation
import LTX
import Support
import Torch
import Tracking

/// Callbacks of a run, called between steps on the thread that trains.
public struct TrainingEvents {
  public var stepped: (StepRecord) -> Void = { _ in }
  public var validated: (ValidationRecord) -> Void = { _ in }
  /// Called while validation samples are generated.
  public var sampling: (ValidationProgress) -> Void = { _ in }
  public var sampled: ([ValidationMedia], Int) -> Void = { _, _ in }
  public var saved: (String) -> Void = { _ in }
  /// Called at the end of a run that was not interrupted, including one that failed because no step
  /// was finite.
  public var learned: (LearningSummary) -> Void = { _ in }
  /// Called after each step; returns whether to save and end.
  public var shouldStop: () -> Bool = { false }

  public init() {}
}

/// The result of a run.
public struct TrainingResult: Sendable {
  public var outcome: RunOutcome
  public var statistics: RunStatistics
  /// The most recently saved weights file.
  public var weights: String?
  /// Nil for a run that was interrupted, and on ranks other than 0.
  public var learning: LearningSummary?
  /// With `checkpoints.keep_best`: the checkpoint with the lowest validation loss.
  public var best: (step: Int, loss: Double, weights: String)?
}

extension Trainer {
  /// Trains until the configured number of steps is done or `shouldStop` returns true, and then
  /// saves.
  ///
  /// Ranks other than 0 write no files.
  ///
  /// - Throws: `Issue` after too many consecutive steps whose loss or gradient was not
  ///   finite (the weights before them are saved), and if saving failed and
  ///   `checkpoints.on_save_error` is `stop`.
  public func run(_ events: TrainingEvents = TrainingEvents()) throws -> TrainingResult {
    let c = configuration
    let started = ContinuousClock.now
    let first = completedSteps
    // Files that are being written are finished if a step throws.
    defer {
      saves.waitUntilIdle()
      for error in saves.takeErrors() { warn("saving failed: \(describe(error))") }
    }
    if group.isMain {
      try folder.create()
      try folder.write(fingerprint)
      // A new run must not leave older states, which the next start would load.
      if first == 0 { try folder.removeStates() }
      try prepareBest()
    }
    try group.barrier()
    let metrics = group.isMain ? try MetricsFile(path: folder.metrics, resumingAfter: first) : nil
    if group.isMain {
      try AtomicFile.write(Data(try c.resolvedYAML.utf8), to: folder.configuration)
    }
    try device.resetPeakMemory()
    var lastSaved: Int?
    var samples = 0
    var outcome = RunOutcome.success
    let steps = c.optimization.steps

    if first == 0 { try validate(events) }
    // If an earlier start has measured the validation loss, that is the loss before training.
    if group.isMain {
      validations = first > 0 ? try RecordedMetrics.validations(path: folder.metrics) : []
    }
    if try group.allReduce([group.isMain && validations.isEmpty ? 1 : 0], .max)[0] > 0 {
      try measureHeldOut(metrics, events)
    }
    let loader = BatchLoader(
      dataset, order: order, share: batchShare, steps: first..<max(first, steps),
      workers: c.data.numDataloaderWorkers, device: device, captionDropout: captionDropout,
      draws: draws)
    var savingSeconds = 0.0
    var lastEnd = ContinuousClock.now
    while completedSteps < steps {
      let betweenSeconds = (ContinuousClock.now - lastEnd) / .seconds(1)
      var record = try trainStep(completedSteps, loader, stops: events.shouldStop)
      lastEnd = ContinuousClock.now
      record.savingSeconds = savingSeconds
      record.betweenSeconds = betweenSeconds
      samples += record.samples ?? 0
      try recording { try metrics?.append(record) }
      events.stepped(record)

      // If one rank is asked to stop, all stop after the same step.
      let stops = group.worldSize > 1 ? signals.contains(.stops) : events.shouldStop()
      let gaveUp = skippedInARow >= c.optimization.maxSkippedSteps
      let isLast = completedSteps == steps || stops || gaveUp
      try validate(events)
      var improved: ValidationRecord?
      // The loss is always measured after the last step, so that losses before and after can be
      // compared.
      if isDue(c.validation.heldOutInterval) || completedSteps == steps {
        improved = try measureHeldOut(metrics, events).flatMap {
          c.checkpoints.keepBest && BestCheckpoint.isImprovement($0, over: best) ? $0 : nil
        }
      }
      let saving = ContinuousClock.now
      let isRegular = isLast || isDue(c.checkpoints.interval)
      // Only the first rank knows the best loss of earlier starts.
      let isImproved =
        sharesTrainedWeights
        ? try group.allReduce([group.isMain && improved != nil ? 1 : 0], .max)[0] > 0
        : improved != nil
      if isRegular || isImproved {
        try save(isLast: isLast, improved: improved, isRegular: isRegular, events)
        if isRegular { lastSaved = completedSteps }
      } else {
        try storeState()
      }
      savingSeconds = (ContinuousClock.now - saving) / .seconds(1)
      announceSaves(events)
      try heedSaveErrors(isLast: isLast)
      if gaveUp {
        _ = concludeLearning(events)
        throw Issue(
          ["loss"],
          "it or the gradient was not finite in \(skippedInARow) steps in a row, up to step "
            + "\(completedSteps); the weights before them are saved in "
            + folder.weights(step: completedSteps),
          suggestion: "Lower the learning rate, or look for damaged samples with "
            + "`ltx dataset check`.")
      }
      if stops, completedSteps < steps {
        outcome = .interrupted
        break
      }
    }
    try metrics?.close()
    // Loading the base weights may take a while, and an interrupted run should end soon.
    let learning = outcome == .success ? concludeLearning(events) : nil
    guard skippedInARow == 0 || skippedInARow < completedSteps - first else {
      throw Issue(
        "none of the \(completedSteps - first) steps had a finite loss and gradient; the weights are unchanged"
      )
    }
    let seconds = (ContinuousClock.now - started) / .seconds(1)
    return TrainingResult(
      outcome: outcome,
      statistics: RunStatistics(
        totalSeconds: seconds, steps: completedSteps - first, samples: samples,
        peakBytes: try device.memory().peakBytes),
      weights: group.isMain ? lastSaved.map { folder.weights(step: $0) } : nil, learning: learning,
      best: best.map { ($0.step, $0.loss, folder.weights(step: $0.step)) })
  }

  private func isDue(_ interval: Int?) -> Bool {
    interval.map { completedSteps.isMultiple(of: $0) } ?? false
  }

  /// Measures the loss on held-out samples, with averaged weights if there are any.
  @discardableResult
  private func measureHeldOut(
    _ metrics: MetricsFile?, _ events: TrainingEvents
  ) throws -> ValidationRecord? {
    guard let heldOut else { return nil }
    let loss = HeldOutLoss(dataset: heldOut, seed: UInt64(configuration.validation.heldOut.seed))
    let record = try withAveragedWeights {
      try loss.measure(
        step: completedSteps, flow: flowMatching, group: group, sharesModel: sharesModel,
        example: { try self.example($0, $1) },
        losses: { try self.step.losses($0, self.objective) })
    }
    validations.append(record)
    try recording { try metrics?.append(record) }
    events.validated(record)
    return record
  }

  /// Loads the best checkpoint of an earlier start, or removes a record that no longer applies.
  private func prepareBest() throws {
    if let validationSet { best = earlierBest(validationSet) }
    if best == nil, FileManager.default.fileExists(atPath: folder.best) {
      try FileManager.default.removeItem(atPath: folder.best)
    }
  }

  /// Generates validation samples if they are due; each rank generates its share.
  private func validate(_ events: TrainingEvents) throws {
    guard let validation, validation.isDue(at: completedSteps) else { return }
    let work = ValidationWork.share(
      of: validation.sampleCount, group.share, sharesModel: sharesModel)
    func sample() throws -> [ValidationOutput] {
      try withAveragedWeights {
        try validation.run(
          transformer: model.transformer, autocast: model.autocast, step: completedSteps,
          work: work, endsWithFailure: sharesModel,
          report: events.sampling,
          // Several ranks stop after the same step, so one must not stop here.
          isStopped: { self.group.worldSize == 1 && events.shouldStop() })
      }
    }
    let outputs: [ValidationOutput]
    do {
      outputs =
        configuration.acceleration.offloadOptimizerDuringValidation
        ? try optimization.optimizer.withStateOnHost(sample) : try sample()
    } catch is CancellationError {
      return
    }
    let own = try JSON(encoding: outputs.map { [String($0.sample), $0.path] }).data()
    let all = try group.allGather(bytes: Array(own)).flatMap {
      try JSON.decode([[String]].self, from: $0)
    }
    let prompts = configuration.validation.samples.map(\.prompt)
    let media = try all.compactMap { item -> (Int, String)? in Int(item[0]).map { ($0, item[1]) } }
      .sorted { $0.0 < $1.0 }
      .map { try ValidationOutput(sample: $0, path: $1, prompt: prompts[$0]).media() }
    if group.isMain, !media.isEmpty { events.sampled(media, completedSteps) }
  }

  /// Runs a closure with the averaged weights in place of the trained ones.
  func withAveragedWeights<R>(_ body: () throws -> R) throws -> R {
    try average?.withAverages(body) ?? body()
  }
}
