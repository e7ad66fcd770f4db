// F H W latent frames, rows, columns.

import LTX
import Media
import Torch

extension VideoGrid {
  /// A rectangle of latent cells.
  struct Cells: Equatable {
    var rows: Range<Int>
    var columns: Range<Int>

    var isEmpty: Bool { rows.isEmpty || columns.isEmpty }
  }

  /// The cells of a rectangle of pixels: its edges are rounded towards the picture's start, as in
  /// the reference (ltx-trainer, `validation_runner.py`).
  func cells(of region: PixelRegion) -> Cells {
    func scaled(_ first: Int, _ end: Int, _ factor: Int, _ count: Int) -> Range<Int> {
      func bound(_ x: Int) -> Int { max(0, min(x / factor, count)) }
      return bound(first)..<max(bound(first), bound(end))
    }
    return Cells(
      rows: scaled(region.top, region.bottom, factors.height, rows),
      columns: scaled(region.left, region.right, factors.width, columns))
  }

  /// 1 within a rectangle, in every frame: [1, F, H, W].
  func mask(keeping cells: Cells) throws -> Tensor {
    let rows = (0..<rows).map { cells.rows.contains($0) ? Float(1) : 0 }
    let columns = (0..<columns).map { cells.columns.contains($0) ? Float(1) : 0 }
    let plane =
      try Tensor(rows, shape: [rows.count, 1]) * Tensor(columns, shape: [1, columns.count])
    return try plane.expand([1, frames, rows.count, columns.count]).contiguous()
  }
}
