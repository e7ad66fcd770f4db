// B batch, T tokens, C latent channels, S text tokens, W context width.

import Torch

/// How strongly one stream's prediction is pushed away from worse ones (ltx-core, `components/guiders.py`).
public struct Guidance: Sendable {
  /// Classifier-free guidance: away from the prediction for the negative prompt. 1 is off.
  public var cfg = 1.0
  /// Spatio-temporal guidance: away from the prediction without self-attention in some blocks. 0 is off.
  public var stg = 0.0
  /// Away from the prediction without the other stream. 1 is off.
  public var modality = 1.0
  /// How far the result's standard deviation is pulled back to the plain prediction's, 0 to 1.
  public var rescale = 0.0
  /// The stream is predicted only at every (n + 1)-th step, and keeps its last prediction in between.
  public var skipSteps = 0

  public init() {}

  func isPredicted(at step: Int) -> Bool { step.isMultiple(of: skipSteps + 1) }

  /// Combines predictions of x0 in float32; absent ones were not needed by this stream.
  func combine(_ conditional: Tensor, _ others: GuidancePasses) throws -> Tensor {
    let c = try conditional.to(.float32)
    var result = c
    for (weight, other) in [
      (cfg - 1, others.unconditional), (stg, others.perturbed), (modality - 1, others.isolated),
    ] {
      guard let other, weight != 0 else { continue }
      result = try result.adding(c - other.to(.float32), scale: Scalar(weight))
    }
    if rescale != 0 {
      let factor = try c.std(nil) / result.std(nil)
      result = try result * (factor * rescale + (1 - rescale))
    }
    return try result.to(conditional.dtype)
  }
}

/// The predictions of x0 beside the conditional one.
struct GuidancePasses {
  var unconditional: Tensor?
  var perturbed: Tensor?
  var isolated: Tensor?
}

/// One stream while it is sampled.
public struct SampledStream: Sendable {
  /// [B, T, C], the noisy tokens.
  public var latent: Tensor
  public let sequence: LatentSequence
  /// [B, S, W]
  public let context: Tensor
  /// For the negative prompt; nil takes `context`.
  public let negativeContext: Tensor?
  public let guidance: Guidance
  public let selfAttentionMask: Tensor?

  /// Starts from noise [B, T, C], blended with what is known: clean + mask * (noise - clean).
  public init(
    noise: Tensor, sequence: LatentSequence, context: Tensor, negativeContext: Tensor? = nil,
    guidance: Guidance = Guidance(), selfAttentionMask: Tensor? = nil
  ) throws {
    let clean = try sequence.clean.to(.float32)
    latent = try clean.lerp(to: noise.to(.float32), sequence.denoiseMask.unsqueeze(-1)).to(noise.dtype)
    self.sequence = sequence
    self.context = context
    self.negativeContext = negativeContext
    self.guidance = guidance
    self.selfAttentionMask = selfAttentionMask
  }
}

/// Walks the streams down the noise levels by Euler steps, all guidance passes of a step in one batch.
public struct Sampler: Sendable {
  public let transformer: Transformer
  /// Blocks whose self-attention is left out for spatio-temporal guidance; nil for all.
  public var stgBlocks: Set<Int>?

  public init(transformer: Transformer, stgBlocks: Set<Int>? = nil) {
    self.transformer = transformer
    self.stgBlocks = stgBlocks
  }

  /// - Parameters:
  ///   - sigmas: noise levels, one more than there are steps.
  ///   - onStep: called after each step with its index and both streams.
  /// - Returns: the streams after the last step; all tokens, appended conditions too.
  public func sample(
    video: SampledStream?, audio: SampledStream?, sigmas: [Float],
    onStep: (Int, SampledStream?, SampledStream?) throws -> Void = { _, _, _ in }
  ) throws -> (video: SampledStream?, audio: SampledStream?) {
    var video = video
    var audio = audio
    var lastVideo: Tensor?
    var lastAudio: Tensor?
    for step in 0..<(sigmas.count - 1) {
      let predictsVideo = video?.guidance.isPredicted(at: step) ?? false
      let predictsAudio = audio?.guidance.isPredicted(at: step) ?? false
      if predictsVideo || predictsAudio {
        let predicted = try predict(
          video, audio, sigma: sigmas[step], predictsVideo: predictsVideo, predictsAudio: predictsAudio)
        if predictsVideo { lastVideo = predicted.video }
        if predictsAudio { lastAudio = predicted.audio }
      }
      video = try video.map { try Self.euler($0, lastVideo, from: sigmas[step], to: sigmas[step + 1]) }
      audio = try audio.map { try Self.euler($0, lastAudio, from: sigmas[step], to: sigmas[step + 1]) }
      try onStep(step, video, audio)
    }
    return (video, audio)
  }

  /// The guided predictions of x0 at a noise level: [B, T, C].
  private func predict(
    _ video: SampledStream?, _ audio: SampledStream?, sigma: Float, predictsVideo: Bool, predictsAudio: Bool
  ) throws -> (video: Tensor?, audio: Tensor?) {
    enum Pass { case conditional, unconditional, perturbed, isolated }
    let guidances = [video?.guidance, audio?.guidance].compactMap { $0 }
    var passes: [Pass] = [.conditional]
    if guidances.contains(where: { $0.cfg != 1 }) { passes.append(.unconditional) }
    if guidances.contains(where: { $0.stg != 0 }) { passes.append(.perturbed) }
    if guidances.contains(where: { $0.modality != 1 }) { passes.append(.isolated) }

    let batch = (video ?? audio)?.latent.size(0) ?? 0
    func rows(_ pass: Pass) -> [Bool] { passes.flatMap { Array(repeating: $0 == pass, count: batch) } }
    var perturbations = Perturbations()
    if passes.contains(.perturbed) {
      if video.map({ $0.guidance.stg != 0 }) ?? false {
        perturbations.add(.videoSelfAttention, blocks: stgBlocks, rows: rows(.perturbed))
      }
      if audio.map({ $0.guidance.stg != 0 }) ?? false {
        perturbations.add(.audioSelfAttention, blocks: stgBlocks, rows: rows(.perturbed))
      }
    }
    if passes.contains(.isolated) {
      perturbations.add(.audioToVideo, rows: rows(.isolated))
      perturbations.add(.videoToAudio, rows: rows(.isolated))
    }

    func modality(_ stream: SampledStream, isEnabled: Bool) throws -> Modality {
      func tiled(_ t: Tensor) throws -> Tensor {
        passes.count == 1 ? t : try Tensor.cat(Array(repeating: t, count: passes.count), 0)
      }
      let contexts = passes.map {
        $0 == .unconditional ? stream.negativeContext ?? stream.context : stream.context
      }
      let latent = try tiled(stream.latent)
      return Modality(
        latent: latent, timesteps: try tiled(stream.sequence.denoiseMask) * Double(sigma),
        sigma: try .full([latent.size(0)], Scalar(Double(sigma)), device: latent.device),
        positions: try tiled(stream.sequence.positions), context: try Tensor.cat(contexts, 0),
        selfAttentionMask: try stream.selfAttentionMask.map(tiled), isEnabled: isEnabled)
    }
    let videoInput = try video.map { try modality($0, isEnabled: predictsVideo) }
    let audioInput = try audio.map { try modality($0, isEnabled: predictsAudio) }
    let velocity = try transformer(video: videoInput, audio: audioInput, perturbations: perturbations)

    func combine(_ stream: SampledStream?, _ input: Modality?, _ velocity: Tensor?) throws -> Tensor? {
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
    return (try combine(video, videoInput, velocity.video), try combine(audio, audioInput, velocity.audio))
  }

  /// One Euler step towards x0, which is blended with what is known first.
  private static func euler(_ stream: SampledStream, _ x0: Tensor?, from: Float, to: Float) throws
    -> SampledStream
  {
    guard let x0 else { return stream }
    let mask = try stream.sequence.denoiseMask.unsqueeze(-1)
    let blended = try (x0.to(.float32) * mask + stream.sequence.clean.to(.float32) * (1 - mask)).to(x0.dtype)
    let x = try stream.latent.to(.float32)
    // The reference rounds the velocity to the latent's type.
    let velocity = try ((x - blended.to(.float32)) / Double(from)).to(stream.latent.dtype).to(.float32)
    var next = stream
    next.latent = try (x + velocity * Double(to - from)).to(stream.latent.dtype)
    return next
  }
}
