import Torch

/// A part of one modality that is given to the model instead of generated.
///
/// `Source` is the origin of the known data: the cache in training, files in validation and
/// generation. Encoded conditions are `LatentCondition`s.
public struct Condition<Source: Sendable>: Sendable {
  public enum Kind: Sendable {
    /// An image at a pixel frame. At frame 0 it replaces the first latent frame; at any other frame
    /// it is appended as additional tokens.
    case image(frame: Int)
    /// The first latent frame.
    case firstFrame
    /// The start of the modality; nil for the source's full length.
    case prefix(Extent?)
    /// The end of the modality; nil for the source's full length.
    case suffix(Extent?)
    /// A rectangle in all frames; video only.
    case crop(PixelRegion)
    /// Everything outside a range of time, in seconds.
    case retake(from: Double, to: Double)
    /// The part that a mask marks, or the part outside of it.
    case mask(Source, MaskRule)
    /// Another video or audio that the model refers to (IC-LoRA). A nil `scale` means the scale
    /// that the LoRAs were trained with. `isShown` puts the reference beside the result.
    case reference(scale: ReferenceScale? = nil, isShown: Bool = false)
    /// The whole modality: only the other one is generated.
    case whole
  }

  /// The length of a prefix or suffix.
  public enum Extent: Sendable, Equatable {
    /// Latent frames of video, or latent steps of audio.
    case latentFrames(Int)
    /// Pixel frames of video.
    case frames(Int)
    /// Seconds of audio.
    case seconds(Double)
  }

  public var source: Source
  public var kind: Kind
  /// The strength with which the known data is kept, from 0 to 1.
  public var strength: Double
  /// The probability that training applies the condition, drawn for each sample, or for a whole
  /// batch for references.
  public var probability: Double

  public init(_ source: Source, _ kind: Kind, strength: Double = 1, probability: Double = 1) {
    self.source = source
    self.kind = kind
    self.strength = strength
    self.probability = probability
  }
}

extension Condition: Equatable where Source: Equatable {}
extension Condition.Kind: Equatable where Source: Equatable {}

extension Condition {
  /// The length of a prefix or suffix in latent frames; nil without one.
  public var latentFrames: Int? {
    if case .latentFrames(let count)? = extent { count } else { nil }
  }

  /// The length of a prefix or suffix in pixel frames; nil without one.
  public var frames: Int? { if case .frames(let count)? = extent { count } else { nil } }

  /// The length of a prefix or suffix in seconds; nil without one.
  public var seconds: Double? { if case .seconds(let count)? = extent { count } else { nil } }

  private var extent: Extent? {
    switch kind {
    case .prefix(let extent), .suffix(let extent): extent
    default: nil
    }
  }

  public var isReference: Bool { if case .reference = kind { true } else { false } }

  /// Whether the complete modality is given.
  public var isWhole: Bool { if case .whole = kind { true } else { false } }

  /// The source of a mask; nil for other conditions.
  public var mask: Source? { if case .mask(let source, _) = kind { source } else { nil } }
}

/// An encoded condition, which `VideoGrid` and `AudioGrid` apply to the tokens of a modality
/// (ltx-core, `conditioning/types`).
///
/// Latents are [B, C, f, h, w] of video or [B, Z, t, N] of audio.
public enum LatentCondition: Sendable {
  /// The latent replaces tokens of the result, from a latent frame on.
  case replace(latent: Tensor, latentFrame: Int, strength: Double = 1)
  /// A still image at a pixel frame, appended as additional tokens; video only.
  case keyframe(latent: Tensor, frame: Int, strength: Double)
  /// An appended reference whose positions are scaled to the result's. `attention` weakens the
  /// attention between the reference and the result: [B, tokens] from 0 to 1.
  case reference(
    latent: Tensor, scale: ReferenceScale = ReferenceScale(), strength: Double = 1,
    attention: Tensor? = nil)
  /// Frames that are generated in addition to the video, at increasing pixel frames, appended as
  /// one latent frame each. `start` is mixed with noise, [B, C, frames, H, W]; nil for pure noise.
  case generatedKeyframes(frames: [Int], start: Tensor? = nil)
  /// A latent of the complete result, kept where the mask is 1: [B, F, H, W] of video, [B, T] of
  /// audio.
  case masked(latent: Tensor, mask: Tensor, strength: Double = 1)
}
