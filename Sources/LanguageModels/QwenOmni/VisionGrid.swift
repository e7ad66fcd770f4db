// P patches, M tokens (merged patches).

import Support
import Torch

/// The places of the patches of several images and clips, in the order in which a vision tower
/// computes them.
///
/// Patches come in blocks of `mergeSize` x `mergeSize`, which become one token each. The blocks of
/// a frame come row by row. Where attention is limited to windows, the blocks of a frame are sorted
/// by window, so that each window is a span of the sequence. Windows of one size are neighbors,
/// which changes nothing but the number of products.
struct VisionGrid: Sendable {
  /// The row and the column of each patch: [P].
  let rows: [Int]
  let columns: [Int]
  /// The spans of patches that attend to each other: in all blocks, or those with full attention.
  let frames: AttentionSpans
  /// Those of the other blocks.
  let windows: AttentionSpans
  /// The place of each block in the order of computation, in the order of the input; nil if the
  /// orders are the same. [M]
  let order: [Int]?

  /// - Parameter items: Frames, rows and columns of patches of each image or clip.
  /// - Throws: `Issue` for a grid that blocks don't divide.
  init(_ items: [[Int]], _ c: VisionConfiguration) throws {
    var (rows, columns, order): ([Int], [Int], [Int]) = ([], [], [])
    var (frames, windows): ([Int], [Int]) = ([], [])
    for (index, item) in items.enumerated() {
      try Self.require(item, at: index, c)
      let (height, width) = (item[1] / c.mergeSize, item[2] / c.mergeSize)
      let areas =
        c.family == .qwen25
        ? Self.windows(rows: height, columns: width, size: c.windowSize)
        : [Area(rows: 0..<height, columns: 0..<width)]
      let blocks = areas.flatMap { area in
        area.rows.flatMap { row in area.columns.map { (row: row, column: $0) } }
      }
      for _ in 0..<item[0] {
        let start = order.count
        for (row, column) in blocks {
          order.append(start + row * width + column)
          for patch in 0..<c.patchesPerToken {
            rows.append(row * c.mergeSize + patch / c.mergeSize)
            columns.append(column * c.mergeSize + patch % c.mergeSize)
          }
        }
        frames.append(item[1] * item[2])
        windows += areas.map { $0.rows.count * $0.columns.count * c.patchesPerToken }
      }
    }
    (self.rows, self.columns) = (rows, columns)
    self.frames = AttentionSpans(frames)
    self.windows = AttentionSpans(windows)
    self.order = c.family == .qwen25 ? order : nil
  }

  static func require(_ item: [Int], at index: Int, _ c: VisionConfiguration) throws {
    guard item.count == 3, item.allSatisfy({ (1...Self.maxSide).contains($0) }),
      item[1].isMultiple(of: c.mergeSize), item[2].isMultiple(of: c.mergeSize)
    else {
      throw Issue(
        ["grid", .index(index)],
        "is \(item) (expected frames, rows and columns of patches, the last two multiples of "
          + "\(c.mergeSize))")
    }
  }

  /// Products of three sides fit into an `Int`.
  private static let maxSide = 1 << 20

  private struct Area {
    let rows: Range<Int>
    let columns: Range<Int>
  }

  /// The windows of a frame from its top left corner; those at the right and at the bottom may be
  /// smaller. Windows of one size are neighbors.
  private static func windows(rows: Int, columns: Int, size: Int) -> [Area] {
    func parts(_ count: Int) -> (whole: [Range<Int>], rest: [Range<Int>]) {
      let whole = (0..<count / size).map { $0 * size..<($0 + 1) * size }
      return (whole, count.isMultiple(of: size) ? [] : [count / size * size..<count])
    }
    let (down, across) = (parts(rows), parts(columns))
    return [down.whole, down.rest].flatMap { rows in
      [across.whole, across.rest].flatMap { columns in
        rows.flatMap { row in columns.map { Area(rows: row, columns: $0) } }
      }
    }
  }
}

/// The rotation of queries and keys by the row and the column of their patch (Su et al.,
/// "RoFormer", 2021), always in float32.
///
/// Half of the angles belong to the row, half to the column; the first half of a head is rotated
/// with the second.
struct VisionRotation: Sendable {
  /// [P, 1, E/2]
  private let cos: Tensor
  private let sin: Tensor

  init(_ grid: VisionGrid, headWidth: Int, device: Device) throws {
    let half = headWidth / 2
    let exponents = try Tensor.arange(to: Scalar(half), step: 2, dtype: .float32) / Double(half)
    let frequencies = try Tensor.pow(10_000.0, exponents).reciprocal()
    func angles(_ places: [Int]) throws -> Tensor {
      try Tensor(places.map(Float.init)).unsqueeze(-1) * frequencies
    }
    let phases = try Tensor.cat([angles(grid.rows), angles(grid.columns)], -1).unsqueeze(1)
    cos = try phases.cos().to(device)
    sin = try phases.sin().to(device)
  }

  /// - Parameter x: [P, H, E]
  func rotate(_ x: Tensor) throws -> Tensor {
    let halves = try x.to(.float32).chunk(2, -1)
    return try Tensor.cat(
      [halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin], -1
    ).to(x.dtype)
  }
}
