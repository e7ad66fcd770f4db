// B batch, T tokens, C latent channels.

import Torch

/// Walks the streams down the noise levels, all guidance passes of a step in one batch.
public struct Sampler: Sendable {
  /// How a step gets from one noise level to the next.
  public enum Method: String, Sendable, CaseIterable {
    /// Along the predicted velocity.
    case euler
    /// A second prediction half-way, with fresh noise on the way: see `sampleSecondOrder`.
    case res2s = "res_2s"
  }

  /// Called after each step with its index and both streams. What it throws ends the sampling.
  public typealias OnStep = (Int, SampledModality?, SampledModality?) throws -> Void

  public let transformer: Transformer
  public var method: Method
  /// Mixed precision: the transformer alone is run under autocast to this type; nil for none.
  public var autocast: DType?

  public init(transformer: Transformer, method: Method = .euler, autocast: DType? = nil) {
    self.transformer = transformer
    self.method = method
    self.autocast = autocast
  }

  /// - Parameter sigmas: noise levels, one more than there are steps.
  /// - Returns: the streams after the last step; all tokens, appended conditions too.
  public func sample(
    video: SampledModality?, audio: SampledModality?, sigmas: [Float],
    onStep: OnStep = { _, _, _ in }
  ) throws -> (video: SampledModality?, audio: SampledModality?) {
    switch method {
    case .euler: try sampleEuler(video: video, audio: audio, sigmas: sigmas, onStep: onStep)
    case .res2s: try sampleSecondOrder(video: video, audio: audio, sigmas: sigmas, onStep: onStep)
    }
  }

  private func sampleEuler(
    video: SampledModality?, audio: SampledModality?, sigmas: [Float], onStep: OnStep
  ) throws -> (video: SampledModality?, audio: SampledModality?) {
    var (video, audio) = (video, audio)
    var last = Prediction()
    for step in 0..<(sigmas.count - 1) {
      last = try predict(video, audio, sigma: Double(sigmas[step]), step: step, last: last)
      video = try video.map {
        try Self.euler($0, last.video, from: sigmas[step], to: sigmas[step + 1])
      }
      audio = try audio.map {
        try Self.euler($0, last.audio, from: sigmas[step], to: sigmas[step + 1])
      }
      try onStep(step, video, audio)
    }
    return (video, audio)
  }

  /// One Euler step towards x0, which is blended with what is known first.
  private static func euler(
    _ stream: SampledModality, _ x0: Tensor?, from: Float, to: Float
  ) throws -> SampledModality {
    guard let x0 else { return stream }
    let x = try stream.latent.to(.float32)
    // The reference rounds the velocity to the latent's type.
    let velocity = try ((x - stream.keepingKnown(x0).to(.float32)) / Double(from)).to(
      stream.latent.dtype)
    return stream.with(
      latent: try (x + velocity.to(.float32) * Double(to - from)).to(stream.latent.dtype))
  }

  /// The guided predictions of x0 for each stream: [B, T, C].
  struct Prediction {
    var video: Tensor?
    var audio: Tensor?
  }

  private enum Pass { case conditional, unconditional, perturbed, isolated }

  /// Predicts x0 at a noise level.
  ///
  /// - Parameter last: what a stream that skips this step keeps.
  func predict(
    _ video: SampledModality?, _ audio: SampledModality?, sigma: Double, step: Int,
    last: Prediction = Prediction()
  ) throws -> Prediction {
    let predictsVideo = video?.guidance.isPredicted(at: step) ?? false
    let predictsAudio = audio?.guidance.isPredicted(at: step) ?? false
    guard predictsVideo || predictsAudio else { return last }

    let guidances = [video?.guidance, audio?.guidance].compactMap { $0 }
    var passes: [Pass] = [.conditional]
    if guidances.contains(where: { $0.cfg != 1 }) { passes.append(.unconditional) }
    if guidances.contains(where: { $0.stg != 0 }) { passes.append(.perturbed) }
    if guidances.contains(where: { $0.modality != 1 }) { passes.append(.isolated) }

    let videoInput = try video.map {
      try modality($0, passes, sigma: sigma, isEnabled: predictsVideo)
    }
    let audioInput = try audio.map {
      try modality($0, passes, sigma: sigma, isEnabled: predictsAudio)
    }
    func predicted() throws -> (video: Tensor?, audio: Tensor?) {
      try transformer(
        video: videoInput, audio: audioInput, perturbations: perturbations(passes, video, audio))
    }
    let device = (videoInput ?? audioInput)?.latent.device ?? .cpu
    let velocity = try autocast.map { try withAutocast($0, on: device, predicted) } ?? predicted()
    return Prediction(
      video: predictsVideo ? try combine(video, passes, videoInput, velocity.video) : last.video,
      audio: predictsAudio ? try combine(audio, passes, audioInput, velocity.audio) : last.audio)
  }

  private func perturbations(
    _ passes: [Pass], _ video: SampledModality?, _ audio: SampledModality?
  ) -> Perturbations {
    let batch = (video ?? audio)?.latent.size(0) ?? 0
    func rows(_ pass: Pass) -> [Bool] {
      passes.flatMap { Array(repeating: $0 == pass, count: batch) }
    }
    var perturbations = Perturbations()
    if passes.contains(.perturbed) {
      for (stream, kind) in [
        (video, Perturbations.Kind.videoSelfAttention), (audio, .audioSelfAttention),
      ] {
        guard let stream, stream.guidance.stg != 0 else { continue }
        perturbations.add(kind, blocks: stream.guidance.stgBlocks, rows: rows(.perturbed))
      }
    }
    if passes.contains(.isolated) {
      perturbations.add(.audioToVideo, rows: rows(.isolated))
      perturbations.add(.videoToAudio, rows: rows(.isolated))
    }
    return perturbations
  }

  private func modality(
    _ stream: SampledModality, _ passes: [Pass], sigma: Double, isEnabled: Bool
  ) throws -> ModalityInput {
    func tiled(_ t: Tensor) throws -> Tensor {
      passes.count == 1 ? t : try Tensor.cat(Array(repeating: t, count: passes.count), 0)
    }
    let contexts = passes.map {
      $0 == .unconditional ? stream.negativeContext ?? stream.context : stream.context
    }
    let latent = try tiled(stream.latent)
    return ModalityInput(
      latent: latent, timesteps: try tiled(stream.sequence.denoiseMask) * sigma,
      sigma: try .full(
        [latent.size(0)], Scalar(stream.isFrozen ? 0 : sigma), device: latent.device),
      positions: try tiled(stream.sequence.positions), context: try Tensor.cat(contexts, 0),
      selfAttentionMask: try stream.sequence.selfAttentionMask.map(tiled), isEnabled: isEnabled)
  }

  private func combine(
    _ stream: SampledModality?, _ passes: [Pass], _ input: ModalityInput?, _ velocity: Tensor?
  ) throws -> Tensor? {
    guard let stream, let input, let velocity else { return nil }
    // Per token: conditioned tokens, whose timestep is 0, give themselves back.
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
    return try stream.guidance.combine(parts[0], others)
  }
}
