// B batch, C latent channels, F H W latent frames, rows, columns, T tokens, Z audio channels.

import Support
import Torch

/// The number of pixels and pixel frames in a latent cell.
public struct CompressionFactors: Sendable, Equatable {
  public var time: Int
  public var height: Int
  public var width: Int

  public init(time: Int, height: Int, width: Int) {
    self.time = time
    self.height = height
    self.width = width
  }

  /// The factors of the published LTX-2 checkpoints.
  public static let usual = CompressionFactors(time: 8, height: 32, width: 32)

  /// The number of latent frames of a clip of `8k + 1` pixel frames. The first latent frame is a
  /// single pixel frame.
  public func latentFrames(_ frames: Int) -> Int { (frames - 1) / time + 1 }
}

/// Video latents as tokens, and their positions in time and space (ltx-core,
/// `components/patchifiers.py`).
public enum VideoTokens {
  /// [B, C, F, H, W] to [B, F * H * W, C]; columns fastest.
  public static func patchify(_ latent: Tensor) throws -> Tensor {
    try latent.flatten(from: 2, through: 4).transpose(1, 2).contiguous()
  }

  /// [B, F * H * W, C] to [B, C, F, H, W]
  public static func unpatchify(_ tokens: Tensor, frames: Int, rows: Int, columns: Int) throws
    -> Tensor
  {
    try tokens.transpose(1, 2).unflatten(2, [frames, rows, columns]).contiguous()
  }

  /// The start and end of each token, in pixel frames and pixels: [B, 3, T, 2], float32.
  ///
  /// - Parameter isCausal: whether the first latent frame is a single pixel frame.
  static func pixelBounds(
    batch: Int, frames: Int, rows: Int, columns: Int, factors: CompressionFactors, isCausal: Bool
  ) throws -> Tensor {
    func bounds(_ count: Int, _ factor: Int, shift: Int = 0) throws -> Tensor {
      let start = try Tensor.arange(to: Scalar(count), dtype: .float32)
      let both = try Tensor.stack([start, start + 1], -1) * Double(factor)
      return shift == 0 ? both : try (both - Double(shift)).clamped(min: 0)
    }
    let t = try bounds(frames, factors.time, shift: isCausal ? factors.time - 1 : 0)
    let h = try bounds(rows, factors.height)
    let w = try bounds(columns, factors.width)
    let grid = [frames, rows, columns, 2]
    return try Tensor.stack(
      [
        t.reshape([frames, 1, 1, 2]).expand(grid), h.reshape([1, rows, 1, 2]).expand(grid),
        w.reshape([1, 1, columns, 2]).expand(grid),
      ], 0
    ).flatten(from: 1, through: 3).unsqueeze(0).expand([batch, 3, frames * rows * columns, 2])
      .contiguous()
  }

  /// Positions for the transformer: seconds, pixel rows, pixel columns, [B, 3, T, 2].
  public static func positions(
    batch: Int, frames: Int, rows: Int, columns: Int, fps: Double, factors: CompressionFactors
  ) throws -> Tensor {
    try pixelBounds(
      batch: batch, frames: frames, rows: rows, columns: columns, factors: factors, isCausal: true
    ).scalingTime(by: fps, divides: true)
  }
}

extension Tensor {
  /// Multiplies or divides the time axis of positions [B, 3, T, 2].
  func scalingTime(by factor: Double, divides: Bool) throws -> Tensor {
    let time = try slice(1, from: 0, to: 1)
    return try Tensor.cat([divides ? time / factor : time * factor, slice(1, from: 1)], 1)
  }
}

extension CompressionFactors {
  /// Pixels whose size is not a multiple of the compression.
  func sizeIssue(height: Int, width: Int) -> Issue {
    func nearest(_ size: Int, _ factor: Int) -> Int { max(1, size / factor) * factor }
    return Issue(
      ["pixels"],
      "the height must be a multiple of \(self.height) and the width one of \(self.width) "
        + "(got \(height) x \(width))",
      suggestion: "Resize or crop them, for example to \(nearest(height, self.height)) x "
        + "\(nearest(width, self.width)).")
  }

  /// A latent of one row or column, in a model that pads by reflection.
  func reflectionIssue(rows: Int, columns: Int) -> Issue {
    Issue(
      ["latent"],
      "is too small for reflection padding (got \(rows) x \(columns), expected at least 2 x 2)",
      suggestion:
        "Use at least \(2 * height) x \(2 * width) pixels, and tiles that leave no smaller "
        + "remainder.")
  }
}
