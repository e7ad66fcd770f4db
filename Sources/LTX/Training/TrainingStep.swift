// B batch, T tokens, T' target tokens, C latent channels.

import BlockExecution
import NN
import Torch

/// What the transformer is given in a training step, and what it should answer.
public struct TrainingExample: Sendable {
  public struct Stream: Sendable {
    public var modality: ModalityInput
    /// [B, T', C]: the velocity noise - x of the last T' tokens; nil for a stream that is only
    /// attended to.
    public var target: Tensor?
    /// [B, T]: 1 where a token counts.
    public var lossMask: Tensor?

    public init(modality: ModalityInput, target: Tensor?, lossMask: Tensor?) {
      self.modality = modality
      self.target = target
      self.lossMask = lossMask
    }

    /// Mean squared error per sample, over the tokens that count: [B].
    func loss(_ velocity: Tensor) throws -> Tensor? {
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

  /// The losses of each sample.
  func losses(_ velocity: (video: Tensor?, audio: Tensor?)) throws -> SampleLosses {
    try SampleLosses(
      video: video.flatMap { stream in try velocity.video.flatMap { try stream.loss($0) } },
      audio: audio.flatMap { stream in try velocity.audio.flatMap { try stream.loss($0) } })
  }
}

/// The loss of each sample, [B], of each stream that has a target.
public struct SampleLosses: Sendable {
  public let video: Tensor?
  public let audio: Tensor?

  /// The streams' losses added: [B].
  public let total: Tensor

  /// - Throws: `ModalityError` where there is none.
  init(video: Tensor?, audio: Tensor?) throws {
    guard let first = video ?? audio else {
      throw ModalityError(problem: "there is nothing to train: no stream has a target")
    }
    self.video = video
    self.audio = audio
    total = if let video, let audio { try video + audio } else { first }
  }

  func detached() throws -> SampleLosses {
    try SampleLosses(video: video?.detach(), audio: audio?.detach())
  }
}

/// Forward and backward through the transformer under an execution plan.
public struct TrainingStep: Sendable {
  public let transformer: Transformer
  public let plan: ExecutionPlan
  /// The trained tensors outside of the blocks.
  private let endParameters: [Parameter]

  public init(transformer: Transformer, plan: ExecutionPlan) {
    self.transformer = transformer
    self.plan = plan
    let inBlocks = Set(transformer.blocks.blocks.flatMap { $0.parameters.map(\.key) })
    endParameters = transformer.parameters.filter { !inBlocks.contains($0.key) }
  }

  /// The loss per sample without gradients: [B].
  public func loss(_ example: TrainingExample) throws -> Tensor { try losses(example).total }

  /// The losses of each sample without gradients, by modality.
  public func losses(_ example: TrainingExample) throws -> SampleLosses {
    try withoutGrad {
      let device = try Self.device(of: example)
      let velocity = try plan.inPrecision(on: device) {
        try transformer(video: example.video?.modality, audio: example.audio?.modality)
      }
      return try example.losses(velocity)
    }
  }

  /// What a forward and backward pass gives.
  public struct Result: Sendable {
    /// Before the step, without their graph.
    public let losses: SampleLosses
    /// Of the mean of `losses.total`, by parameter key.
    public let gradients: [String: Tensor]
    /// The forward pass alone; on a device that runs behind, the time to hand it over.
    public let forwardSeconds: Double

    public var loss: Tensor { losses.total }
  }

  /// - Parameter scale: what the gradients are multiplied by: the batch's share of all samples, for
  ///   accumulation.
  /// - Returns: the loss per sample [B], and the gradients of its batch mean by parameter key.
  public func callAsFunction(_ example: TrainingExample, scale: Double = 1) throws -> Result {
    let start = ContinuousClock.now
    let device = try Self.device(of: example)
    let prepared = try plan.inPrecision(on: device) {
      try transformer.prepare(video: example.video?.modality, audio: example.audio?.modality)
    }
    let pass = try transformer.blocks.forward(prepared.states, prepared.conditioning, plan: plan)
    let velocity = try plan.inPrecision(on: device) {
      try transformer.finish(pass.output, prepared)
    }
    let losses = try example.losses(velocity)
    let forward = (ContinuousClock.now - start) / .seconds(1)

    // Out: from the loss to the last block's output, and to what is trained in the transformer's
    // ends.
    let outputs = pass.output.tensors
    let active = outputs.indices.filter { outputs[$0].requiresGrad }
    let ends = endParameters.map(\.tensor)
    var gradients: [String: Tensor] = [:]
    guard !active.isEmpty || !ends.isEmpty else {
      return Result(losses: try losses.detached(), gradients: gradients, forwardSeconds: forward)
    }
    let found = try grad(
      of: [losses.total.mean() * scale], wrt: active.map { outputs[$0] } + ends,
      retainGraph: !ends.isEmpty)
    add(found.suffix(ends.count), to: &gradients)
    var outputGradients = [Tensor?](repeating: nil, count: outputs.count)
    for (position, index) in active.enumerated() { outputGradients[index] = found[position] }

    let below = try pass.backward(outputGradients)
    gradients.merge(below.parameters) { $1 }

    // In: from the first block's inputs to what is trained before them.
    let inputs = zip(
      prepared.states.tensors + prepared.conditioning.tensors, below.state + below.shared
    )
    .filter { $0.requiresGrad && $1 != nil }
    if !ends.isEmpty, !inputs.isEmpty {
      let more = try grad(of: inputs.map(\.0), wrt: ends, gradOutputs: inputs.compactMap(\.1))
      for (parameter, gradient) in zip(endParameters, more) {
        guard let gradient else { continue }
        gradients[parameter.key] =
          try gradients[parameter.key].map { try $0 + gradient } ?? gradient
      }
    }
    return Result(losses: try losses.detached(), gradients: gradients, forwardSeconds: forward)
  }

  private func add(_ found: ArraySlice<Tensor?>, to gradients: inout [String: Tensor]) {
    for (parameter, gradient) in zip(endParameters, found) { gradients[parameter.key] = gradient }
  }

  private static func device(of example: TrainingExample) throws -> Device {
    guard let modality = example.video?.modality ?? example.audio?.modality else {
      throw ModalityError(problem: "there is nothing to train: neither video nor audio is given")
    }
    return modality.latent.device
  }
}
