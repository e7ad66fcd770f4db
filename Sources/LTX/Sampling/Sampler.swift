// B batch, T tokens, C latent channels.

import Torch

/// Denoises the modalities along the noise levels. All guidance passes of a step run in one batch.
public struct Sampler: Sendable {
  /// The integration method of a step from one noise level to the next.
  public enum Method: String, Sendable, CaseIterable {
    /// A step along the predicted velocity.
    case euler
    /// A second prediction at the midpoint, with fresh noise: see `sampleSecondOrder`.
    case res2s = "res_2s"
  }

  /// Called after each step with its index and the modalities. An error that it throws ends the
  /// sampling.
  public typealias OnStep = (Int, PerModality<SampledModality?>) throws -> Void

  public let transformer: Transformer
  public var method: Method
  /// Fresh noise in each Euler step; nil for none. The second-order method has its own.
  public var ancestral: AncestralNoise?
  /// Mixed precision: only the transformer runs under autocast to this dtype; nil for none.
  public var autocast: DType?

  public init(transformer: Transformer, method: Method = .euler, autocast: DType? = nil) {
    self.transformer = transformer
    self.method = method
    self.autocast = autocast
  }

  /// - Parameter sigmas: The noise levels, one more than there are steps.
  /// - Returns: The modalities after the last step, with all tokens, including those of appended
  ///   conditions.
  public func sample(
    _ start: PerModality<SampledModality?>, sigmas: [Float], onStep: OnStep = { _, _ in }
  ) throws -> PerModality<SampledModality?> {
    switch method {
    case .euler: try sampleEuler(start, sigmas: sigmas, onStep: onStep)
    case .res2s: try sampleSecondOrder(start, sigmas: sigmas, onStep: onStep)
    }
  }

  private func sampleEuler(
    _ start: PerModality<SampledModality?>, sigmas: [Float], onStep: OnStep
  ) throws -> PerModality<SampledModality?> {
    var sampled = start
    var last = Prediction()
    for step in 0..<(sigmas.count - 1) {
      last = try predict(sampled, sigma: Double(sigmas[step]), step: step, last: last)
      sampled = try sampled.compactMap { modality, sample in
        guard let x0 = last[modality] else { return sample }
        let (from, to) = (sigmas[step], sigmas[step + 1])
        return try ancestral?.step(sample, modality, towards: x0, from: from, to: to, index: step)
          ?? Self.euler(sample, x0, from: from, to: to)
      }
      try onStep(step, sampled)
    }
    return sampled
  }

  /// One Euler step towards x0, after the known tokens have replaced the predicted ones.
  private static func euler(
    _ sample: SampledModality, _ x0: Tensor, from: Float, to: Float
  ) throws -> SampledModality {
    let x = try sample.latent.to(.float32)
    // Upstream rounds the velocity to the latent's dtype.
    let velocity = try ((x - sample.keepingKnown(x0).to(.float32)) / Double(from)).to(
      sample.latent.dtype)
    return sample.with(
      latent: try (x + velocity.to(.float32) * Double(to - from)).to(sample.latent.dtype))
  }

  /// The guided predictions of x0: [B, T, C].
  typealias Prediction = PerModality<Tensor?>

  private enum Pass { case conditional, unconditional, perturbed, isolated }

  /// Predicts x0 at a noise level.
  ///
  /// - Parameter last: The prediction that a modality keeps if it skips this step.
  func predict(
    _ samples: PerModality<SampledModality?>, sigma: Double, step: Int,
    last: Prediction = Prediction()
  ) throws -> Prediction {
    let isPredicted = samples.map { $0?.guidance.isPredicted(at: step) ?? false }
    guard isPredicted.video || isPredicted.audio else { return last }

    let guidances = samples.values().map(\.guidance)
    var passes: [Pass] = [.conditional]
    if guidances.contains(where: { $0.cfg != 1 }) { passes.append(.unconditional) }
    if guidances.contains(where: { $0.stg != 0 }) { passes.append(.perturbed) }
    if guidances.contains(where: { $0.modality != 1 }) { passes.append(.isolated) }

    let inputs = try samples.compactMap { modality, sample in
      try input(sample, passes, sigma: sigma, isEnabled: isPredicted[modality])
    }
    func predicted() throws -> PerModality<Tensor?> {
      try transformer(inputs, perturbations: perturbations(passes, samples))
    }
    let device = inputs.values().first?.latent.device ?? .cpu
    let velocities =
      try autocast.map { try withAutocast($0, on: device, predicted) } ?? predicted()
    return try PerModality { modality in
      guard isPredicted[modality] else { return last[modality] }
      guard let sample = samples[modality], let input = inputs[modality],
        let velocity = velocities[modality]
      else { return nil }
      return try combine(sample, passes, input, velocity)
    }
  }

  private func perturbations(
    _ passes: [Pass], _ samples: PerModality<SampledModality?>
  ) -> Perturbations {
    let batch = samples.values().first?.latent.size(0) ?? 0
    func rows(_ pass: Pass) -> [Bool] {
      passes.flatMap { Array(repeating: $0 == pass, count: batch) }
    }
    var perturbations = Perturbations()
    for modality in Modality.allCases {
      if passes.contains(.perturbed), let guidance = samples[modality]?.guidance, guidance.stg != 0
      {
        perturbations.add(
          .selfAttention(modality), blocks: guidance.stgBlocks, rows: rows(.perturbed))
      }
      if passes.contains(.isolated) {
        perturbations.add(.crossAttention(from: modality), rows: rows(.isolated))
      }
    }
    return perturbations
  }

  private func input(
    _ sample: SampledModality, _ passes: [Pass], sigma: Double, isEnabled: Bool
  ) throws -> ModalityInput {
    func tiled(_ t: Tensor) throws -> Tensor {
      passes.count == 1 ? t : try Tensor.cat(Array(repeating: t, count: passes.count), 0)
    }
    let contexts = passes.map {
      $0 == .unconditional ? sample.negativeContext ?? sample.context : sample.context
    }
    let latent = try tiled(sample.latent)
    return ModalityInput(
      latent: latent, timesteps: try tiled(sample.timestepMask) * sigma,
      sigma: try .full(
        [latent.size(0)], Scalar(sample.isFrozen ? 0 : sigma), device: latent.device),
      positions: try tiled(sample.sequence.positions), context: try Tensor.cat(contexts, 0),
      selfAttentionMask: try sample.sequence.selfAttentionMask.map(tiled),
      keyframesMask: try sample.sequence.keyframesMask.map(tiled), isEnabled: isEnabled)
  }

  private func combine(
    _ sample: SampledModality, _ passes: [Pass], _ input: ModalityInput, _ velocity: Tensor
  ) throws -> Tensor {
    // Per token: conditioned tokens, whose timestep is 0, are returned unchanged.
    let x0 = try (input.latent.to(.float32) - velocity.to(.float32) * input.timesteps.unsqueeze(-1))
      .to(input.latent.dtype)
    let parts = try x0.chunk(passes.count, 0)
    var others = GuidancePasses()
    for (pass, part) in zip(passes, parts) {
      switch pass {
      case .conditional: break
      case .unconditional: others.unconditional = part
      case .perturbed: others.perturbed = part
      case .isolated: others.isolated = part
      }
    }
    return try sample.guidance.combine(parts[0], others)
  }
}
