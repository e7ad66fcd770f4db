// B batch, T tokens, C latent channels, S text tokens, W context width.

import Torch

/// One modality during sampling.
public struct SampledModality: Sendable {
  /// [B, T, C], the noisy tokens.
  public var latent: Tensor
  public let sequence: LatentSequence
  /// [B, S, W]
  public let context: Tensor
  /// The context of the negative prompt; nil for `context`.
  public let negativeContext: Tensor?
  public let guidance: Guidance
  /// Whether the complete modality is given: its tokens stay unchanged, at a sigma of 0.
  public let isFrozen: Bool
  /// The sequence's mask, or only its first column, [B, 1], if it has the same value everywhere. The
  /// transformer then computes the modulation once for all tokens.
  let timestepMask: Tensor

  /// Starts from noise [B, T, C], mixed into the sequence's start by `noiseLevel`. Known tokens
  /// replace it according to the mask.
  ///
  /// - Parameters:
  ///   - noiseLevel: 1 for pure noise; less to refine the sequence's start.
  ///   - isFrozen: Keeps the sequence's clean tokens, regardless of its mask.
  public init(
    noise: Tensor, sequence: LatentSequence, context: Tensor, negativeContext: Tensor? = nil,
    guidance: Guidance = Guidance(), noiseLevel: Double = 1, isFrozen: Bool = false
  ) throws {
    var sequence = sequence
    if isFrozen { sequence.denoiseMask = try .zeros(like: sequence.denoiseMask) }
    let mask = sequence.denoiseMask
    let isShared = try mask.amin().item() == mask.amax().item()
    timestepMask = isShared ? try mask.narrow(1, 0, 1) : mask
    let clean = try sequence.clean.to(.float32)
    var noisy = try noise.to(.float32)
    if noiseLevel != 1 {
      let start = try sequence.start?.to(.float32) ?? .zeros(like: noisy)
      noisy = try start.lerp(to: noisy, Scalar(noiseLevel))
    }
    latent = try clean.lerp(to: noisy, sequence.denoiseMask.unsqueeze(-1)).to(noise.dtype)
    self.sequence = sequence
    self.context = context
    self.negativeContext = negativeContext
    self.guidance = guidance
    self.isFrozen = isFrozen
  }

  /// The prediction with its known tokens replaced by the known values: [B, T, C] in the
  /// prediction's dtype.
  func keepingKnown(_ predicted: Tensor) throws -> Tensor {
    let mask = try sequence.denoiseMask.unsqueeze(-1)
    let x = predicted.dtype == .float64 ? predicted : try predicted.to(.float32)
    return try (x * mask + sequence.clean.to(.float32) * (1 - mask)).to(predicted.dtype)
  }

  func with(latent: Tensor) -> SampledModality {
    var copy = self
    copy.latent = latent
    return copy
  }
}
