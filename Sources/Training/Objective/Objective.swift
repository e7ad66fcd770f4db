// B batch, T tokens, T' target tokens, C latent channels.

import BlockExecution
import LTX
import Support
import Torch

/// The training objective: the masked mean squared error between the predicted and the target
/// velocity of each sample, summed over the modalities with their weights.
public struct Objective: Sendable, Equatable {
  /// The factors of the modalities' losses in the total.
  public var weights: PerModality<Double>

  /// - Parameters: finite numbers of at least 0.
  public init(videoWeight: Double = 1, audioWeight: Double = 1) {
    weights = PerModality(video: videoWeight, audio: audioWeight)
  }

  /// The losses of each sample of an example.
  ///
  /// - Parameter velocities: the predictions, [B, T, C]; the last T' tokens are compared.
  /// - Throws: `Issue` if no modality has a target, `TorchError`.
  public func losses(
    _ example: TrainingExample, _ velocities: PerModality<Tensor?>
  ) throws -> SampleLosses {
    try SampleLosses(
      example.compactMap { modality, part in
        try velocities[modality].flatMap { try part.loss($0) }
      }, weighted: self)
  }

  /// Multiplies a loss by its weight. A weight of 1 adds no operation.
  fileprivate static func weighted(_ loss: Tensor, by weight: Double) throws -> Tensor {
    weight == 1 ? loss : try loss * weight
  }
}

/// The transformer's input in a training step, and the velocities that it should predict.
public typealias TrainingExample = PerModality<ModalityExample?>

/// One modality of a training example.
public struct ModalityExample: Sendable {
  public var input: ModalityInput
  /// [B, T', C]: the velocity noise - x of the last T' tokens; nil for a modality that is only
  /// attended to.
  public var target: Tensor?
  /// [B, T]: 1 where a token counts.
  public var lossMask: Tensor?

  public init(input: ModalityInput, target: Tensor?, lossMask: Tensor?) {
    self.input = input
    self.target = target
    self.lossMask = lossMask
  }

  /// The mean squared error of each sample over the tokens that count, [B].
  fileprivate func loss(_ velocity: Tensor) throws -> Tensor? {
    guard let target, let lossMask else { return nil }
    let tokens = target.size(1)
    let predicted = try velocity.slice(1, from: velocity.size(1) - tokens).to(.float32)
    let mask = try lossMask.slice(1, from: lossMask.size(1) - tokens).to(.float32).unsqueeze(-1)
    let error = try (predicted - target.to(.float32)).square() * mask
    return try error.mean([1, 2]) / mask.mean([1, 2]).clamped(min: 1e-8)
  }
}

/// The loss of each sample, [B], by modality and in total.
public struct SampleLosses: Sendable {
  /// Without weights; nil for a modality without a target.
  public let byModality: PerModality<Tensor?>
  /// The weighted sum over the modalities.
  public let total: Tensor

  fileprivate init(_ losses: PerModality<Tensor?>, weighted objective: Objective) throws {
    let parts = try losses.compactMap {
      try Objective.weighted($1, by: objective.weights[$0])
    }.values()
    guard let first = parts.first else {
      throw Issue("there is nothing to train: no modality has a target")
    }
    byModality = losses
    total = try parts.dropFirst().reduce(first) { try $0 + $1 }
  }

  private init(_ losses: PerModality<Tensor?>, total: Tensor) {
    (byModality, self.total) = (losses, total)
  }

  fileprivate func detached() throws -> SampleLosses {
    try SampleLosses(byModality.map { try $0?.detach() }, total: total.detach())
  }
}

extension TrainingStep {
  public typealias Result = Pass<SampleLosses>

  /// The losses of an example without gradients.
  public func losses(_ example: TrainingExample, _ objective: Objective = Objective()) throws
    -> SampleLosses
  {
    try withoutGrad {
      try objective.losses(example, velocities(example.map { $0?.input }))
    }
  }

  /// The total loss per sample without gradients, [B].
  public func loss(_ example: TrainingExample, _ objective: Objective = Objective()) throws
    -> Tensor
  {
    try losses(example, objective).total
  }

  /// A forward and backward pass.
  ///
  /// - Parameters:
  ///   - scale: the factor of the gradients: the batch's share of all samples of a step, times the
  ///     loss scale of float16.
  ///   - take: receives the gradients during the backward pass; the result has none then.
  /// - Returns: the losses of each sample, and the gradients of the mean of their total over the
  ///   batch.
  public func callAsFunction(
    _ example: TrainingExample, _ objective: Objective = Objective(), scale: Double = 1,
    taking take: GradientSink? = nil
  ) throws -> Result {
    try self(example.map { $0?.input }, taking: take) { velocities in
      let losses = try objective.losses(example, velocities)
      return (try losses.total.mean() * scale, try losses.detached())
    }
  }
}

extension TrainingStep.Pass<SampleLosses> {
  /// The total loss of each sample before the step, [B].
  public var loss: Tensor { losses.total }
}
