// B batch, T tokens, T' target tokens, C latent channels.

import LTX
import Torch

/// The training objective: the masked mean squared error between the predicted and the target
/// velocity of each sample, summed over the modalities with their weights.
public struct Objective: Sendable, Equatable {
  /// The factor of the video's loss in the total.
  public var videoWeight: Double
  /// The factor of the audio's loss in the total.
  public var audioWeight: Double

  /// - Parameters: finite numbers of at least 0.
  public init(videoWeight: Double = 1, audioWeight: Double = 1) {
    self.videoWeight = videoWeight
    self.audioWeight = audioWeight
  }

  /// The losses of each sample of an example.
  ///
  /// - Parameter velocities: of the modalities, [B, T, C]; the last T' tokens are compared.
  /// - Throws: `ModalityError` if no modality has a target, `TorchError`.
  public func losses(_ example: TrainingExample, _ velocities: TrainingStep.Velocities) throws
    -> SampleLosses
  {
    try SampleLosses(
      video: example.video.flatMap { stream in try velocities.video.flatMap { try stream.loss($0) }
      },
      audio: example.audio.flatMap { stream in try velocities.audio.flatMap { try stream.loss($0) }
      },
      weighted: self)
  }

  /// A loss times its weight. A weight of 1 adds no operation.
  fileprivate static func weighted(_ loss: Tensor, by weight: Double) throws -> Tensor {
    weight == 1 ? loss : try loss * weight
  }
}

/// The transformer's input in a training step, and the velocities that it should predict.
public struct TrainingExample: Sendable {
  public struct Stream: Sendable {
    public var modality: ModalityInput
    /// [B, T', C]: the velocity noise - x of the last T' tokens; nil for a modality that is only
    /// attended to.
    public var target: Tensor?
    /// [B, T]: 1 where a token counts.
    public var lossMask: Tensor?

    public init(modality: ModalityInput, target: Tensor?, lossMask: Tensor?) {
      self.modality = modality
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

  public var video: Stream?
  public var audio: Stream?

  public init(video: Stream?, audio: Stream?) {
    self.video = video
    self.audio = audio
  }
}

/// The loss of each sample, [B], by modality and in total.
public struct SampleLosses: Sendable {
  /// Without its weight; nil for a modality without a target.
  public let video: Tensor?
  /// Without its weight; nil for a modality without a target.
  public let audio: Tensor?
  /// The weighted sum over the modalities.
  public let total: Tensor

  fileprivate init(video: Tensor?, audio: Tensor?, weighted objective: Objective) throws {
    let parts = try [(video, objective.videoWeight), (audio, objective.audioWeight)].compactMap {
      loss, weight in try loss.map { try Objective.weighted($0, by: weight) }
    }
    guard let first = parts.first else {
      throw ModalityError(problem: "there is nothing to train: no modality has a target")
    }
    self.video = video
    self.audio = audio
    total = try parts.dropFirst().reduce(first) { try $0 + $1 }
  }

  private init(video: Tensor?, audio: Tensor?, total: Tensor) {
    (self.video, self.audio, self.total) = (video, audio, total)
  }

  fileprivate func detached() throws -> SampleLosses {
    try SampleLosses(video: video?.detach(), audio: audio?.detach(), total: total.detach())
  }
}

extension TrainingStep {
  public typealias Result = Pass<SampleLosses>

  /// The losses of an example without gradients.
  public func losses(_ example: TrainingExample, _ objective: Objective = Objective()) throws
    -> SampleLosses
  {
    try withoutGrad {
      try objective.losses(
        example, velocities(video: example.video?.modality, audio: example.audio?.modality))
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
  /// - Parameter scale: the factor of the gradients: the batch's share of all samples of a step,
  ///   times the loss scale of float16.
  /// - Returns: the losses of each sample, and the gradients of the mean of their total over the
  ///   batch.
  public func callAsFunction(
    _ example: TrainingExample, _ objective: Objective = Objective(), scale: Double = 1
  ) throws -> Result {
    try self(video: example.video?.modality, audio: example.audio?.modality) { velocities in
      let losses = try objective.losses(example, velocities)
      return (try losses.total.mean() * scale, try losses.detached())
    }
  }
}

extension TrainingStep.Pass<SampleLosses> {
  /// The total loss of each sample before the step, [B].
  public var loss: Tensor { losses.total }
}
