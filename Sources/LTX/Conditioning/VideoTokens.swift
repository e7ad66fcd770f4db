// B batch, C latent channels, F H W latent frames, rows, columns, T tokens, Z audio channels.

import Torch

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
