// F H W latent frames, rows, columns.

import Torch

/// A rectangle of an image, in pixels, without its bottom and right edge.
public struct PixelRegion: Sendable, Equatable {
  public var top: Int
  public var left: Int
  public var bottom: Int
  public var right: Int

  public init(top: Int, left: Int, bottom: Int, right: Int) {
    (self.top, self.left, self.bottom, self.right) = (top, left, bottom, right)
  }
}

/// A rectangle of latent cells.
public struct LatentRegion: Sendable, Equatable {
  public var rows: Range<Int>
  public var columns: Range<Int>

  public init(rows: Range<Int>, columns: Range<Int>) {
    (self.rows, self.columns) = (rows, columns)
  }

  public var isEmpty: Bool { rows.isEmpty || columns.isEmpty }

  /// The cells of a rectangle of pixels: its edges are rounded towards the start of the image, like
  /// in upstream (ltx-trainer, `validation_runner.py`).
  ///
  /// - Parameter rows, columns: The size of the latent.
  public init(
    _ region: PixelRegion, rows: Int, columns: Int, factors: CompressionFactors
  ) {
    func scaled(_ first: Int, _ end: Int, _ factor: Int, _ count: Int) -> Range<Int> {
      func bound(_ x: Int) -> Int { max(0, min(x / factor, count)) }
      return bound(first)..<max(bound(first), bound(end))
    }
    self.init(
      rows: scaled(region.top, region.bottom, factors.height, rows),
      columns: scaled(region.left, region.right, factors.width, columns))
  }
}

extension VideoGrid {
  /// The latent cells of a rectangle of pixels.
  public func cells(of region: PixelRegion) -> LatentRegion {
    LatentRegion(region, rows: rows, columns: columns, factors: factors)
  }

  /// 1 within a rectangle, 0 elsewhere, the same in every frame: [1, F, H, W], float32.
  public func mask(keeping cells: LatentRegion) throws -> Tensor {
    let rows = (0..<rows).map { cells.rows.contains($0) ? Float(1) : 0 }
    let columns = (0..<columns).map { cells.columns.contains($0) ? Float(1) : 0 }
    let plane =
      try Tensor(rows, shape: [rows.count, 1]) * Tensor(columns, shape: [1, columns.count])
    return try plane.expand([1, frames, rows.count, columns.count]).contiguous()
  }
}
