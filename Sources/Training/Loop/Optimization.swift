import NN
import Optimizers
import Support
import Torch

/// Applies gradients to the weights: clipping, learning rates and the optimizer.
public struct Optimization {
  public let parameters: [Parameter]
  public internal(set) var optimizer: any Optimizer
  let options: OptimizerOptions
  public let schedule: LearningRateSchedule
  /// The limit of the gradient norm; 0 for no clipping.
  public let maximumNorm: Double

  /// The names of the optimizer's groups: the patterns that chose their parameters.
  public let groupNames: [String]

  /// - Throws: `ConfigurationProblems` if learning rates name modules that are not trained, or if
  ///   the optimizer or the schedule does not have an option.
  public init(_ parameters: [Parameter], _ c: TrainingConfiguration) throws {
    self.parameters = parameters
    let o = c.optimization
    let rates = o.learningRates.rates.map { (pattern: $0.pattern, learningRate: $0.learningRate) }
    let groups = try c.naming(.learningRates) {
      try ParameterGroup.groups(of: parameters, learningRate: o.learningRate, rates: rates)
    }
    groupNames = (groups.count > rates.count ? ["other"] : []) + rates.map(\.pattern)
    let options = try c.naming(.optimizerOptions) {
      try OptimizerOptions(o.optimizerType, params: o.optimizerParams)
    }
    self.options = options
    if parameters.contains(where: { $0.shard != nil }), ![.adamw, .lion].contains(options.kind) {
      throw c.problem(
        .optimization,
        "optimizer_type \(options.kind.rawValue) needs whole tensors, but weight_placement sharded "
          + "divides them among the ranks; use adamw or lion")
    }
    optimizer = try c.naming(.optimization) { try options.optimizer(groups) }
    schedule = try c.naming(.scheduleOptions) {
      try LearningRateSchedule(
        o.schedulerType, steps: o.steps, warmupSteps: o.warmupSteps,
        params: o.schedulerParams)
    }
    maximumNorm = o.maxGradNorm
  }

  /// The outcome of a step.
  public struct Outcome: Sendable {
    /// The norm of all gradients together, before clipping.
    public var gradientNorm: Double
    /// The learning rates by group.
    public var learningRates: [Double]
    /// The reason why the step was skipped, such as `non-finite loss`.
    public var skipped: String?
  }

  /// Clips the gradients in place and changes the weights, unless the loss or the gradients are not
  /// finite.
  ///
  /// - Parameters:
  ///   - gradients: by parameter key.
  ///   - loss: the loss before the step.
  ///   - number: the number of the step, from 0.
  public func apply(_ gradients: [String: Tensor], loss: Double, at number: Int) throws -> Outcome {
    try apply(gradients, at: number) { try ($0.item(), loss) }
  }

  /// Does the same with a loss that may still be on the device.
  ///
  /// - Parameters:
  ///   - group: the ranks that divided gradients belong to.
  ///   - read: reads the norm of the gradients, a float32 scalar tensor, and the loss. This
  ///   is the only time in a step that the host has to wait for the device.
  func apply(
    _ gradients: [String: Tensor], at number: Int, group: ProcessGroup = .single,
    reading read: (Tensor) throws -> (norm: Double, loss: Double)
  ) throws -> Outcome {
    func found(_ isIncluded: (Parameter) -> Bool) -> [Tensor] {
      parameters.filter(isIncluded).compactMap { gradients[$0.key] }
    }
    let (norm, loss) = try read(
      GradientClipping.clipped(
        found { $0.shard == nil }, parts: found { $0.shard != nil }, of: group, to: maximumNorm))
    let rates = optimizer.groups.map { schedule.learningRate(base: $0.learningRate, at: number) }
    let skipped = !loss.isFinite ? "non-finite loss" : !norm.isFinite ? "non-finite gradient" : nil
    if skipped == nil { try optimizer.step(gradients, learningRates: rates) }
    return Outcome(gradientNorm: norm, learningRates: rates, skipped: skipped)
  }
}

extension TrainingConfiguration {
  /// Runs a closure that checks options, and reports their issues as problems of a section.
  func naming<R>(_ section: ConfigurationKey, _ body: () throws -> R) throws -> R {
    do {
      return try body()
    } catch let error as Issues {
      let problems = error.all.flatMap { issue in
        let option = issue.subject.pathDescription
        // The warm-up is a key next to the options of the schedule.
        let key =
          option == "warmup_steps"
          ? .warmupSteps : ConfigurationKey(name: "\(section.name).\(option)")
        return problem(key, issue.message).problems
      }
      throw ConfigurationProblems(file: source.file, problems: problems)
    }
  }
}

/// The factor of losses in float16, which keeps small gradients from vanishing (Micikevicius et
/// al., "Mixed Precision Training", 2018). It is as large as possible, with the constants of
/// PyTorch's `GradScaler`.
struct LossScale: Sendable, Equatable {
  private(set) var value: Double
  /// The number of steps since the last change.
  private(set) var goodSteps: Int

  init(value: Double = 65536, goodSteps: Int = 0) {
    (self.value, self.goodSteps) = (value, goodSteps)
  }

  mutating func update(isFinite: Bool) {
    guard isFinite else {
      (value, goodSteps) = (value / 2, 0)
      return
    }
    goodSteps += 1
    if goodSteps == 2000 { (value, goodSteps) = (value * 2, 0) }
  }
}
