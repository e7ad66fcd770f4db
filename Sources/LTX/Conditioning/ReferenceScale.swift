// F H W latent frames, rows, columns; B batch, T tokens.

import Support
import Torch

/// The factors by which a reference is coarser than its clip.
public struct ReferenceScale: Sendable, Equatable {
  /// The number of the clip's pixels per pixel of the reference, in both directions.
  public var space: Int
  /// The number of the clip's frames per frame of the reference.
  public var time: Int

  public init(space: Int = 1, time: Int = 1) {
    self.space = space
    self.time = time
  }

  /// Infers the scale from the sizes of a clip's latents and its reference's.
  ///
  /// - Parameters:
  ///   - reference, target: [F, H, W].
  ///   - keepsTime: The variant of the older `video_to_video`: references run at the target's frame
  ///     rate and may be shorter or longer, and the target's size must be a multiple of theirs. The
  ///     flexible strategy rounds down, like upstream.
  /// - Throws: `Issue` if the sizes aren't multiples of each other by one factor.
  public init(reference: [Int], target: [Int], keepsTime: Bool = false) throws {
    func fail(_ problem: String) -> Issue {
      Issue(
        ["reference"], "of \(Self.words(reference)) \(problem) its clip of \(Self.words(target))")
    }
    var scale = ReferenceScale()
    if reference[1...] != target[1...] {
      let (rows, columns) = (target[1] / reference[1], target[2] / reference[2])
      let isWhole = target[1].isMultiple(of: reference[1]) && target[2].isMultiple(of: reference[2])
      guard rows == columns, rows > 0, isWhole || !keepsTime else {
        throw fail("must be smaller by the same integer factor in height and width than")
      }
      scale.space = rows
    }
    // The first latent frame is one pixel frame; the others are groups of frames.
    let (groups, wanted) = (reference[0] - 1, target[0] - 1)
    if !keepsTime, groups != wanted, groups > 0, wanted > 0 {
      guard wanted.isMultiple(of: groups) else {
        throw fail("must have a number of frames that divides the one of")
      }
      scale.time = wanted / groups
    }
    self = scale
  }

  private static func words(_ size: [Int]) -> String {
    "\(size[0]) latent frames of \(size[1]) x \(size[2]) cells"
  }

  /// The metadata of a saved LoRA, with upstream's keys; empty if both factors are 1.
  public var metadata: [String: String] {
    var metadata: [String: String] = [:]
    if space != 1 {
      metadata["reference_spatial_scale_factor"] = String(space)
      metadata["reference_downscale_factor"] = String(space)
    }
    if time != 1 { metadata["reference_temporal_scale_factor"] = String(time) }
    return metadata
  }

  /// Moves a reference's positions onto the target's: its pixels are stretched, and its last frame
  /// ends with the target's.
  ///
  /// - Parameters:
  ///   - positions: The positions of the reference at its own frame rate, [B, 3, T, 2].
  ///   - target: [B, 3, T', 2]; its first token ends with the first frame.
  ///   - scalesTime: False for references that run at the target's frame rate.
  package func placing(
    _ positions: Tensor, onto target: Tensor, scalesTime: Bool = true
  ) throws -> Tensor {
    var seconds = try positions.slice(1, from: 0, to: 1)
    let pixels = try positions.slice(1, from: 1) * Double(space)
    if scalesTime, time != 1 {
      let frame = try target.slice(1, from: 0, to: 1).slice(2, from: 0, to: 1).slice(
        3, from: 1, to: 2)
      seconds = try (seconds - frame * Double(time - 1)).clamped(min: 0)
    }
    return try Tensor.cat([seconds, pixels], 1)
  }
}
