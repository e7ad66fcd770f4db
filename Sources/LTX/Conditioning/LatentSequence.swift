// B batch, C latent channels, T tokens.

import Torch

/// The tokens of one modality in sampling: their known values, the extent to which these are kept,
/// and their positions.
public struct LatentSequence: Sendable {
  /// [B, T, C]: the values of conditioned tokens, zeros elsewhere.
  public var clean: Tensor
  /// [B, T], float32: 1 where a token is generated, 0 where it is given.
  public var denoiseMask: Tensor
  /// [B, A, T, 2]
  public var positions: Tensor
  /// [B, T, C]: the start of a refinement, before noise is mixed in; nil for zeros.
  public var start: Tensor?
  /// [B, T], float32: 1 where a token shows a single pixel frame that is generated: the first
  /// latent frame and generated keyframes. Nil for audio. Models that weren't trained with marked
  /// tokens ignore it.
  public var keyframesMask: Tensor?
  /// [B, T, T], float32: the strength of the attention between tokens, 0 to 1; nil for full
  /// attention.
  public var selfAttentionMask: Tensor?
  /// The number of tokens of the result, which come first; appended conditions follow.
  public let targetCount: Int
  /// The tokens of generated keyframes, beyond those of the result.
  public private(set) var generatedTokens: Range<Int>?

  public init(clean: Tensor, denoiseMask: Tensor, positions: Tensor) {
    self.clean = clean
    self.denoiseMask = denoiseMask
    self.positions = positions
    targetCount = clean.size(1)
  }

  /// A sequence without known tokens.
  public init(batch: Int, channels: Int, positions: Tensor) throws {
    let tokens = positions.size(2)
    self.init(
      clean: try .zeros([batch, tokens, channels]), denoiseMask: try .ones([batch, tokens]),
      positions: positions)
  }

  /// Appends known tokens.
  ///
  /// - Parameter attention: The strength of the attention between the tokens and the result, [B,
  ///   tokens]; nil for full attention.
  mutating func append(
    _ tokens: Tensor, positions: Tensor, strength: Double, attention: Tensor? = nil
  ) throws {
    let start = try start.map { try Tensor.cat([$0, .zeros(like: tokens)], 1) }
    try append(
      clean: tokens, start: start, positions: positions, mask: 1 - strength, isMarked: false,
      attention: attention)
  }

  /// Appends tokens that are generated in addition to the result, each of which shows a single
  /// pixel frame.
  ///
  /// - Parameter start: The values to mix noise into, [B, tokens, C]; nil for zeros.
  mutating func appendGenerated(_ start: Tensor?, count: Int, positions: Tensor) throws {
    generatedTokens = clean.size(1)..<clean.size(1) + count
    let zeros = try Tensor.zeros(
      [clean.size(0), count, clean.size(2)], dtype: clean.dtype, device: clean.device)
    let values =
      self.start == nil && start == nil
      ? nil : try Tensor.cat([self.start ?? .zeros(like: clean), start ?? zeros], 1)
    try append(clean: zeros, start: values, positions: positions, mask: 1, isMarked: true)
  }

  /// - Parameter start: The new start of all tokens.
  private mutating func append(
    clean tokens: Tensor, start: Tensor?, positions: Tensor, mask: Double, isMarked: Bool,
    attention: Tensor? = nil
  ) throws {
    let shape = [tokens.size(0), tokens.size(1)]
    selfAttentionMask = try extendedAttentionMask(tokens.size(1), attention)
    clean = try Tensor.cat([clean, tokens], 1)
    self.start = start
    denoiseMask = try Tensor.cat([denoiseMask, .full(shape, Scalar(mask))], 1)
    keyframesMask = try keyframesMask.map {
      try Tensor.cat([$0, .full(shape, Scalar(isMarked ? 1 : 0))], 1)
    }
    self.positions = try Tensor.cat([self.positions, positions], 2)
  }

  /// The attention mask with more tokens (ltx-core, `conditioning/mask_utils.py`). They attend to
  /// themselves and to the result, but not to tokens that were appended earlier. Nil as long as no
  /// condition needs a mask.
  private func extendedAttentionMask(_ count: Int, _ attention: Tensor?) throws -> Tensor? {
    guard attention != nil || selfAttentionMask != nil else { return nil }
    let (batch, tokens) = (clean.size(0), clean.size(1))
    let weights = try attention ?? .ones([batch, count])
    let old = try selfAttentionMask ?? .ones([batch, tokens, tokens])
    let others = try Tensor.zeros([batch, tokens - targetCount, count])
    let column = try Tensor.cat(
      [weights.unsqueeze(1).expand([batch, targetCount, count]), others], 1)
    let row = try Tensor.cat([column.transpose(1, 2), .ones([batch, count, count])], 2)
    return try Tensor.cat([Tensor.cat([old, column], 2), row], 1)
  }

  /// Keeps known tokens of the result according to a mask and a strength. Appended tokens stay
  /// unchanged.
  ///
  /// - Parameters:
  ///   - tokens: [B, targetCount, C]
  ///   - mask: [B, targetCount], 1 for tokens that are kept.
  mutating func keep(_ tokens: Tensor, where mask: Tensor, strength: Double) throws {
    let target = 0..<targetCount
    let inverse = try 1 - mask
    clean = try clean.replacing(
      target, with: clean.narrow(1, target) * inverse.unsqueeze(-1) + tokens * mask.unsqueeze(-1))
    denoiseMask = try denoiseMask.replacing(
      target, with: denoiseMask.narrow(1, target) * inverse + mask * (1 - strength))
  }

  /// Returns the sequence on a device, its tokens in a dtype.
  public func to(_ device: Device, _ dtype: DType) throws -> LatentSequence {
    var copy = self
    copy.clean = try clean.to(device, dtype)
    copy.start = try start?.to(device, dtype)
    copy.denoiseMask = try denoiseMask.to(device)
    copy.positions = try positions.to(device)
    copy.selfAttentionMask = try selfAttentionMask?.to(device)
    copy.keyframesMask = try keyframesMask?.to(device)
    return copy
  }
}
