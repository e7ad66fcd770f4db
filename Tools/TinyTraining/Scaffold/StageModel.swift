import NN
import Optimizers
import Torch

/// A model and its loss, which a `Stage` trains.
public protocol StageModel {
  /// The tensors that are trained, the same in every process.
  var parameters: [Parameter] { get }

  /// A description of the model, its data and its loss. A stage can only be resumed with the same.
  var fingerprint: String { get }

  /// Computes the loss of a step.
  ///
  /// - Parameters:
  ///   - step: The number of the step, from 0.
  ///   - seed: The seed of everything random in the step, which depends on nothing else: a resumed
  ///     stage continues with the same random numbers.
  func loss(step: Int, seed: UInt64) throws -> StageLoss

  /// Measures the model on data that it isn't trained with. The parameters then have their averaged
  /// values.
  func evaluate() throws -> [StageMetric]
}

/// The loss of a step.
public struct StageLoss {
  /// A scalar with its graph.
  public let total: Tensor
  /// Values to record.
  public let parts: [(name: String, value: Tensor)]

  public init(_ total: Tensor, parts: [(name: String, value: Tensor)] = []) {
    self.total = total
    self.parts = parts
  }
}

/// A value that a stage records.
public struct StageMetric: Sendable, Equatable {
  public let name: String
  public let value: Double

  public init(_ name: String, _ value: Double) {
    self.name = name
    self.value = value
  }
}

/// The settings of a stage.
public struct StageOptions: Sendable {
  public enum OptimizerKind: String, Sendable { case adamW, muon }

  public var steps: Int
  public var seed: UInt64
  public var learningRate: Double
  /// Muon needs far fewer steps for deep stacks of convolutions, which it trains as matrices of
  /// outputs and inputs; a step costs more.
  public var optimizer = OptimizerKind.adamW
  /// The learning rate falls along a half cosine to this share of its peak.
  public var finalShare = 0.02
  public var warmupSteps = 100
  public var beta2 = 0.99
  public var weightDecay = 0.0
  /// The limit on the norm of all gradients; 0 for none.
  public var maxGradientNorm = 1.0
  /// The share of the moving average that each step keeps.
  public var averageDecay = 0.998
  /// The number of steps between measurements on held-out data.
  public var stepsPerEvaluation = 500
  /// The number of steps between lines of the log.
  public var stepsPerRecord = 20
  /// The number of seconds between states.
  public var secondsPerState = 180.0

  public init(steps: Int, seed: UInt64, learningRate: Double) {
    self.steps = steps
    self.seed = seed
    self.learningRate = learningRate
  }

  var schedule: LearningRateSchedule {
    LearningRateSchedule(
      .cosine(minimum: learningRate * finalShare), steps: steps, warmupSteps: warmupSteps)
  }

  /// The settings that results depend on.
  var fingerprint: String {
    """
    \(optimizer), steps \(steps), seed \(seed), rate \(learningRate) to \(finalShare), warm-up \(warmupSteps), \
    beta2 \(beta2), decay \(weightDecay), norm \(maxGradientNorm), average \(averageDecay)
    """
  }
}
