// F H W latent frames, rows, columns.

import Torch

/// The meaning of a mask's white pixels. Upstream's two programs differ.
public enum MaskRule: Sendable, Equatable {
  /// A latent cell is kept if more than half of it is white in one of its frames (ltx-trainer).
  case keepsWhite
  /// A latent cell is generated if any of its pixels is more than half white in one of its frames
  /// (ltx-pipelines).
  case replacesWhite
}

/// Turns the frames of a mask into the latent cells that it keeps.
public struct MaskRasterizer: Sendable {
  /// The mask frames that belong to one latent frame.
  public enum Grouping: Sendable {
    /// The first frame alone, then as many as a latent frame holds, like the video VAE.
    case causal
    /// Groups of as many frames as a latent frame holds, from the first frame on, padded with black
    /// frames at the end, like upstream's `process_videos.py`.
    case plain
  }

  public let factors: CompressionFactors
  public let rule: MaskRule
  public let grouping: Grouping

  public init(factors: CompressionFactors, rule: MaskRule, grouping: Grouping = .causal) {
    (self.factors, self.rule, self.grouping) = (factors, rule, grouping)
  }

  /// The level of each cell in one mask frame.
  ///
  /// - Parameter frame: brightness from 0 to 1, [height, width].
  /// - Returns: [H, W]
  public func cells(_ frame: Tensor) throws -> Tensor {
    let (rows, columns) = (frame.size(0) / factors.height, frame.size(1) / factors.width)
    let cells = try frame.unflatten(1, [columns, factors.width])
      .unflatten(0, [rows, factors.height])
    return try rule == .keepsWhite ? cells.mean([1, 3]) : cells.amax([1, 3])
  }

  /// The cells that the mask keeps: [F, H, W], float32, 1 or 0.
  ///
  /// - Parameters:
  ///   - frames: at least one frame's `cells`; if there are too few, the last one is repeated
  ///     (`causal`), or the result has fewer latent frames (`plain`).
  ///   - count: the number of pixel frames of the clip.
  public func mask(_ frames: [Tensor], count: Int) throws -> Tensor {
    let latentFrames = factors.latentFrames(count)
    var frames = frames
    let groups: [Range<Int>]
    switch grouping {
    case .causal:
      if let last = frames.last {
        frames += Array(repeating: last, count: max(0, count - frames.count))
      }
      groups = (0..<latentFrames).map {
        max(0, ($0 - 1) * factors.time + 1)..<$0 * factors.time + 1
      }
    case .plain:
      let padding = (factors.time - frames.count % factors.time) % factors.time
      if let first = frames.first {
        frames += Array(repeating: try .zeros(first.shape), count: padding)
      }
      groups = stride(from: 0, to: frames.count, by: factors.time).prefix(latentFrames).map {
        $0..<$0 + factors.time
      }
    }
    let level = try Tensor.stack(
      groups.map { try Tensor.stack(Array(frames[$0])).amax([0]) })
    return try (rule == .keepsWhite ? level.greater(than: 0.5) : level.lessOrEqual(to: 0.5))
      .to(.float32)
  }
}
