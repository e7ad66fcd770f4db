// T H W frames, rows, columns of a volume, N positions of a block of queries, M of their keys.

import Foundation
import Support
import Torch

/// The windows of 3D neighborhood attention over a volume (Hassani et al., "Neighborhood Attention
/// Transformer", 2023).
///
/// A position attends to the positions around it, as many as the kernel has. At the borders of the
/// volume the window shifts inwards, so it is never smaller. Queries are computed in blocks, which
/// read the union of their windows: attention never has a matrix of the whole volume.
///
/// A block of 2 x 6 x 6 queries with a kernel of 3 x 7 x 7 reads 4 x 12 x 12 keys, four times as
/// many as its windows have. Smaller blocks compute less, but gather more: a key is copied once for
/// each block. At these sizes attention takes less time than the linear layers beside it.
struct NeighborhoodWindows: Sendable {
  /// Consecutive blocks along one axis whose windows lie in the same way.
  struct Run: Sendable {
    /// The first query of the first block.
    let start: Int
    /// The number of queries of a block, and of the keys that they read.
    let blockSize: Int
    let keyCount: Int
    /// The first key of each block.
    var firstKeys: [Int]
    /// The first key of each query's window, relative to the block's.
    let offsets: [Int]

    var blockCount: Int { firstKeys.count }
    var queryCount: Int { blockSize * blockCount }
  }

  /// A group of blocks with one mask.
  struct Group: Sendable {
    let rows: Run
    let columns: Run
    /// [frames, rows, columns] of the blocks' keys, as indices into the volume of keys; each
    /// [blocks, keys along the axis], int64.
    let keys: (frames: Tensor, rows: Tensor, columns: Tensor)
    /// [N, M], 0 and the lowest number; nil if every query reads all keys.
    let mask: Tensor?
  }

  let size: VolumeSize
  /// The columns of edge replicas on either side of the keys.
  let halo: Int
  /// The runs along time, each with the groups of its blocks.
  let runs: [(frames: Run, groups: [Group])]
  let rotary: RotaryVolume

  /// The max size of a block of queries along each axis.
  private static let block = (frames: 2, rows: 6, columns: 6)

  /// - Parameters:
  ///   - size: The volume, at least as large as the kernel; in columns only if `replicatesColumns`
  ///     is false.
  ///   - replicatesColumns: Whether windows stay centered along the width, and read copies of the
  ///     edge columns beyond the borders.
  ///   - dtype: The dtype of queries and masks.
  /// - Throws: `Issue` for a volume that is smaller than the kernel.
  init(
    _ size: VolumeSize, kernel: VideoVAEConfiguration.DiffusionDecoder.Kernel, headSize: Int,
    replicatesColumns: Bool = false, dtype: DType, device: Device
  ) throws {
    guard size.frames >= kernel.time, size.rows >= kernel.height,
      replicatesColumns || size.columns >= kernel.width
    else {
      throw Issue(
        ["latent"],
        "is too small: windows of \(kernel.time) x \(kernel.height) x \(kernel.width) don't fit "
          + "into \(size.frames) x \(size.rows) x \(size.columns) positions")
    }
    self.size = size
    halo = replicatesColumns ? kernel.width / 2 : 0
    let keyColumns = size.columns + 2 * halo
    let frames = Self.runs(size.frames, kernel.time, block: Self.block.frames)
    let rows = Self.runs(size.rows, kernel.height, block: Self.block.rows)
    let columns = Self.runs(
      size.columns, kernel.width, block: Self.block.columns, isPadded: replicatesColumns)
    func keys(_ run: Run, _ stride: Int) throws -> Tensor {
      let starts = try Tensor(run.firstKeys).unsqueeze(-1)
      let indices = try starts + Tensor.arange(to: Scalar(run.keyCount))
      return try indices.multiplied(by: Scalar(stride)).to(device)
    }
    runs = try frames.map { frames in
      let groups = try rows.flatMap { rows in
        try columns.map { columns in
          Group(
            rows: rows, columns: columns,
            keys: (
              try keys(frames, size.rows * keyColumns), try keys(rows, keyColumns),
              try keys(columns, 1)
            ),
            mask: try Self.mask(
              [frames, rows, columns], [kernel.time, kernel.height, kernel.width], dtype)?
              .to(device))
        }
      }
      return (frames, groups)
    }
    rotary = try RotaryVolume(size, headSize: headSize, halo: halo, device: device)
  }

  /// Divides an axis into blocks.
  ///
  /// - Parameter isPadded: Whether the keys begin `kernel / 2` positions before the queries, and
  ///   end as many after them.
  static func runs(_ count: Int, _ kernel: Int, block: Int, isPadded: Bool = false) -> [Run] {
    func firstKey(_ query: Int) -> Int {
      isPadded ? query : min(max(query - kernel / 2, 0), count - kernel)
    }
    // Blocks of about the same size, as a small rest would waste most of its keys.
    let blockSize = ceilDivide(count, ceilDivide(count, block))
    var runs: [Run] = []
    for start in stride(from: 0, to: count, by: blockSize) {
      let queries = start..<min(start + blockSize, count)
      let first = firstKey(start)
      let offsets = queries.map { firstKey($0) - first }
      if let last = runs.last, last.offsets == offsets {
        runs[runs.count - 1].firstKeys.append(first)
      } else {
        runs.append(
          Run(
            start: start, blockSize: queries.count,
            keyCount: firstKey(queries.upperBound - 1) + kernel - first, firstKeys: [first],
            offsets: offsets))
      }
    }
    return runs
  }

  private static func mask(_ axes: [Run], _ kernels: [Int], _ dtype: DType) throws -> Tensor? {
    guard zip(axes, kernels).contains(where: { $0.keyCount > $1 }) else { return nil }
    var visible: Tensor?
    for (axis, (run, kernel)) in zip(axes, kernels).enumerated() {
      let flags = run.offsets.flatMap { offset in
        (0..<run.keyCount).map { offset <= $0 && $0 < offset + kernel }
      }
      var shape = [1, 1, 1, 1, 1, 1]
      (shape[axis], shape[axis + 3]) = (run.blockSize, run.keyCount)
      let own = try Tensor(flags, shape: shape)
      visible = try visible?.logicalAnd(own) ?? own
    }
    guard let visible else { return nil }
    let hidden = try visible.flatten(from: 3).flatten(from: 0, through: 2).logicalNot()
    return try Tensor.zeros(hidden.shape, dtype: dtype).maskedFill(
      hidden, Scalar(-dtype.largestFinite))
  }
}

/// Rotary positions of a volume: a part of each head turns with the frame, one with the row, one
/// with the column (Su et al., "RoFormer", 2021).
struct RotaryVolume: Sendable {
  /// [positions along the axis, pairs] each, in float32.
  private let frames: (cos: Tensor, sin: Tensor)
  private let rows: (cos: Tensor, sin: Tensor)
  private let columns: (cos: Tensor, sin: Tensor)
  private let size: VolumeSize
  private let halo: Int

  /// - Parameter halo: The number of columns before the first and after the last one.
  init(_ size: VolumeSize, headSize: Int, halo: Int, device: Device) throws {
    self.size = size
    self.halo = halo
    let parts = Self.split(headSize)
    func table(_ first: Int, _ count: Int, _ channels: Int) throws -> (Tensor, Tensor) {
      let positions = (first..<first + count).map(Float.init)
      let frequencies = stride(from: 0, to: channels, by: 2).map {
        Float(1 / pow(10_000, Double($0) / Double(channels)))
      }
      let phases = try (Tensor(positions).unsqueeze(-1) * Tensor(frequencies).unsqueeze(0)).to(
        device)
      return (try phases.cos(), try phases.sin())
    }
    frames = try table(0, size.frames, parts.time)
    rows = try table(0, size.rows, parts.space)
    columns = try table(-halo, size.columns + 2 * halo, parts.space)
  }

  /// The channels of a head for time, and for rows and columns each: even numbers.
  static func split(_ headSize: Int) -> (time: Int, space: Int) {
    let time = headSize / 4 / 2 * 2
    return (headSize - time) / 2 % 2 == 0
      ? (time, (headSize - time) / 2) : (time - 2, (headSize - time + 2) / 2)
  }

  /// The order in which `rotate` expects the channels of a head: the first of each pair, then the
  /// second ones. Files have the two side by side. Products of queries and keys in the same order
  /// are equal, and halves are contiguous in memory.
  static func order(headSize: Int) -> [Int] {
    (0..<headSize / 2).map { 2 * $0 } + (0..<headSize / 2).map { 2 * $0 + 1 }
  }

  /// - Parameters:
  ///   - heads: [f, H, W, heads, head size], of consecutive frames.
  ///   - first: The number of the first of these frames.
  ///   - includesHalo: Whether the columns are those with the halo.
  func rotate(_ heads: Tensor, from first: Int, includesHalo: Bool) throws -> Tensor {
    let shape = heads.shape
    let half = shape[4] / 2
    let table = [shape[0], shape[1], shape[2]]
    func tables(_ part: ((cos: Tensor, sin: Tensor)) -> Tensor) throws -> Tensor {
      let across = try part(columns).narrow(0, includesHalo ? 0 : halo, shape[2])
      return try Tensor.cat(
        [
          part(frames).narrow(0, first, shape[0]).reshape([shape[0], 1, 1, -1]).expand(
            table + [-1]),
          part(rows).reshape([1, shape[1], 1, -1]).expand(table + [-1]),
          across.reshape([1, 1, shape[2], -1]).expand(table + [-1]),
        ], -1
      ).unsqueeze(3)
    }
    let (cos, sin) = (try tables { $0.cos }, try tables { $0.sin })
    let wide = try heads.to(.float32)
    let (a, b) = (try wide.narrow(4, 0, half), try wide.narrow(4, half, half))
    return try Tensor.cat(
      [
        (a * cos).addingProduct(b, sin, scale: -1), (a * sin).addingProduct(b, cos),
      ], -1
    ).to(heads.dtype)
  }
}
