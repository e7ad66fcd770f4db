// B batch, C latent channels, T tokens.

import Torch

/// The tokens of one stream that sampling works on: what is known of them, how much of it is kept,
/// where they lie.
public struct LatentSequence: Sendable {
  /// [B, T, C]: what conditioned tokens are; zeros elsewhere.
  public var clean: Tensor
  /// [B, T], float32: 1 where a token is generated, 0 where it is given.
  public var denoiseMask: Tensor
  /// [B, A, T, 2]
  public var positions: Tensor
  /// [B, T, C]: what a refinement starts from, before noise is mixed in; nil for zeros.
  public var start: Tensor?
  /// [B, T, T], float32: how far tokens attend to each other, 0 to 1; nil where all do fully.
  public var selfAttentionMask: Tensor?
  /// The first tokens, which are the result; conditions are appended behind them.
  public let targetCount: Int

  public init(clean: Tensor, denoiseMask: Tensor, positions: Tensor) {
    self.clean = clean
    self.denoiseMask = denoiseMask
    self.positions = positions
    targetCount = clean.size(1)
  }

  /// Nothing is known.
  public init(batch: Int, channels: Int, positions: Tensor) throws {
    let tokens = positions.size(2)
    self.init(
      clean: try .zeros([batch, tokens, channels]), denoiseMask: try .ones([batch, tokens]),
      positions: positions)
  }

  /// - Parameter attention: how far the tokens and the result attend to each other, [B, tokens];
  ///   nil for fully.
  mutating func append(
    _ tokens: Tensor, positions: Tensor, strength: Double, attention: Tensor? = nil
  ) throws {
    selfAttentionMask = try extendedAttentionMask(tokens.size(1), attention)
    clean = try Tensor.cat([clean, tokens], 1)
    if let start { self.start = try Tensor.cat([start, .zeros(like: tokens)], 1) }
    let mask = try Tensor.full([tokens.size(0), tokens.size(1)], Scalar(1 - strength))
    denoiseMask = try Tensor.cat([denoiseMask, mask], 1)
    self.positions = try Tensor.cat([self.positions, positions], 2)
  }

  /// The mask with more tokens, which attend to themselves and to the result, but not to what was
  /// appended before (ltx-core, `conditioning/mask_utils.py`). Nil as long as nothing asks for a
  /// mask.
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

  /// Keeps known tokens of the result where a mask says so, by a strength; what was appended stays
  /// as it is.
  ///
  /// - Parameters:
  ///   - tokens: [B, targetCount, C]
  ///   - mask: [B, targetCount], 1 where they are kept.
  mutating func keep(_ tokens: Tensor, where mask: Tensor, strength: Double) throws {
    let target = 0..<targetCount
    let inverse = try 1 - mask
    clean = try clean.replacing(
      target, with: clean.narrow(1, target) * inverse.unsqueeze(-1) + tokens * mask.unsqueeze(-1))
    denoiseMask = try denoiseMask.replacing(
      target, with: denoiseMask.narrow(1, target) * inverse + mask * (1 - strength))
  }

  /// The sequence on a device; tokens in an element type.
  public func to(_ device: Device, _ dtype: DType) throws -> LatentSequence {
    var copy = self
    copy.clean = try clean.to(device, dtype)
    copy.start = try start?.to(device, dtype)
    copy.denoiseMask = try denoiseMask.to(device)
    copy.positions = try positions.to(device)
    copy.selfAttentionMask = try selfAttentionMask?.to(device)
    return copy
  }
}
