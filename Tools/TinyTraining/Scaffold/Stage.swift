import Foundation
import NN
import Optimizers
import Support
import Torch

/// Trains a model until a number of steps, in any number of processes: a stage that is stopped and
/// resumed gives the same weights as one that is not.
public final class Stage<Model: StageModel> {
  public let model: Model
  public let options: StageOptions
  private let optimizer: any Optimizer
  private let average: ExponentialMovingAverage
  private let state: StageState
  private let log: StageLog
  private var progress: StageState.Progress

  /// Prepares a stage, and restores its state if the folder has one.
  ///
  /// - Parameter folder: The folder of the state and the log, which is created if it doesn't exist.
  /// - Throws: `Issue` for a state of another model or with other settings.
  public init(_ model: Model, _ options: StageOptions, folder: String) throws {
    self.model = model
    self.options = options
    try FileManager.default.createDirectory(
      atPath: folder, withIntermediateDirectories: true)
    optimizer = try Self.optimizer(model.parameters, options)
    average = try ExponentialMovingAverage(decay: options.averageDecay, model.parameters)
    state = StageState(
      path: "\(folder)/state.safetensors",
      fingerprint: "\(model.fingerprint); \(options.fingerprint)")
    progress = try state.restore(optimizer, average)
    log = try StageLog(path: "\(folder)/metrics.jsonl", resumingAt: progress.step)
  }

  private static func optimizer(
    _ parameters: [Parameter], _ options: StageOptions
  ) throws -> any Optimizer {
    var settings = AdamW.Options()
    (settings.beta2, settings.weightDecay) = (options.beta2, options.weightDecay)
    switch options.optimizer {
    case .adamW:
      return try AdamW(
        [ParameterGroup(parameters, learningRate: options.learningRate)], options: settings)
    case .muon:
      var matrices = Muon.Options()
      (matrices.weightDecay, matrices.adjustment) = (options.weightDecay, .matchRMSAdamW)
      (matrices.dtype, matrices.adamW) = (.float32, settings)
      // Views with the memory of the weights.
      let views = try parameters.map { parameter in
        Parameter(key: parameter.key, tensor: try asMatrix(parameter.tensor.detach()))
      }
      return try Muon(
        [ParameterGroup(views, learningRate: options.learningRate)], options: matrices)
    }
  }

  /// The weight of a convolution as a matrix of its outputs and all others.
  private static func asMatrix(_ tensor: Tensor) throws -> Tensor {
    tensor.rank > 2 ? try tensor.flatten(from: 1) : tensor
  }

  /// The number of finished steps.
  public var step: Int { progress.step }
  public var isFinished: Bool { progress.step >= options.steps }

  /// The averaged parameters, which are those to save.
  public var averaged: [Parameter] { average.averaged }

  /// Runs `body` while the model has the averaged parameters.
  public func withAverages<R>(_ body: () throws -> R) throws -> R {
    try average.withAverages { try withoutGrad(body) }
  }

  /// Trains until the last step, or until the time is over.
  ///
  /// - Parameters:
  ///   - minutes: The limit on the time; nil for none. It never changes a result.
  ///   - report: Called with each line of the log.
  /// - Returns: Whether the stage is finished.
  public func run(minutes: Double? = nil, report: (String) -> Void = { _ in }) throws -> Bool {
    let start = ContinuousClock.now
    let secondsBefore = progress.seconds
    var saved = 0.0
    func elapsed() -> Double { (ContinuousClock.now - start) / .seconds(1) }
    while !isFinished {
      let number = progress.step
      let metrics = try takeStep(number)
      progress.step += 1
      progress.seconds = secondsBefore + elapsed()
      let isEvaluated = progress.step.isMultiple(of: options.stepsPerEvaluation) || isFinished
      if isEvaluated || progress.step.isMultiple(of: options.stepsPerRecord) {
        let values = try metrics() + (isEvaluated ? withAverages(model.evaluate) : [])
        report(try log.append(step: progress.step, seconds: progress.seconds, values))
      }
      let isOver = minutes.map { elapsed() >= $0 * 60 } ?? false
      if isOver || isFinished || elapsed() - saved >= options.secondsPerState {
        progress.seconds = secondsBefore + elapsed()
        try state.save(progress, optimizer, average)
        saved = elapsed()
      }
      if isOver { break }
    }
    return isFinished
  }

  /// - Returns: The metrics of the step, which are read from tensors only when they are recorded.
  private func takeStep(_ number: Int) throws -> () throws -> [StageMetric] {
    let parameters = average.parameters
    let loss = try model.loss(step: number, seed: RandomSeed.mix(options.seed, "step", number))
    let gradients = try grad(of: [loss.total], wrt: parameters.map(\.tensor))
    let present = zip(parameters, gradients).compactMap { parameter, gradient in
      gradient.map { (parameter.key, $0) }
    }
    let norm = try GradientClipping.clip(present.map(\.1), to: options.maxGradientNorm)
    // A gradient that isn't finite would spoil the moments; the next batch is another one.
    if norm.isFinite {
      let isMuon = options.optimizer == .muon
      let shaped = try present.map { ($0, isMuon ? try Self.asMatrix($1) : $1) }
      try optimizer.step(
        Dictionary(uniqueKeysWithValues: shaped), schedule: options.schedule, at: number)
      try average.update()
    }
    let rate = options.schedule.learningRate(base: options.learningRate, at: number)
    return {
      try [StageMetric("loss", loss.total.item())]
        + loss.parts.map { StageMetric($0.name, try $0.value.item()) }
        + [StageMetric("gradient_norm", norm), StageMetric("learning_rate", rate)]
    }
  }
}
