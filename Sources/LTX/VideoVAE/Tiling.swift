import Support
import Torch

/// The sizes of the overlapping tiles in which a long or large video is encoded or decoded; they
/// are blended where they overlap (ltx-core, `tiling.py`).
public struct Tiling: Sendable, Equatable {
  /// Tiles along one axis, in pixels or pixel frames; both values are multiples of the model's
  /// compression.
  public struct Axis: Sendable, Equatable {
    public var size: Int
    public var overlap: Int

    public init(size: Int, overlap: Int) {
      self.size = size
      self.overlap = overlap
    }
  }

  /// Nil if the video isn't tiled along this axis.
  public var frames: Axis?
  public var height: Axis?
  public var width: Axis?

  public init(frames: Axis? = nil, height: Axis? = nil, width: Axis? = nil) {
    self.frames = frames
    self.height = height
    self.width = width
  }

  /// The default tiling of ltx-core.
  public static let usual = Tiling(
    frames: Axis(size: 80, overlap: 24), height: Axis(size: 768, overlap: 64),
    width: Axis(size: 768, overlap: 64))

  /// The default tiling, rounded to whole latent cells if the compression requires it. Videos that
  /// fit into one tile are encoded or decoded as one.
  public static func usual(for factors: CompressionFactors) -> Tiling {
    func axis(_ usual: Axis?, _ factor: Int) -> Axis? {
      guard let usual else { return nil }
      let overlap = (usual.overlap + factor - 1) / factor * factor
      let size = (usual.size + factor - 1) / factor * factor
      return Axis(size: max(size, overlap + factor, 2 * factor), overlap: overlap)
    }
    return Tiling(
      frames: axis(usual.frames, factors.time), height: axis(usual.height, factors.height),
      width: axis(usual.width, factors.width))
  }

  /// Encoding pads at the edges of tiles, which is visible unless enough of a tile is blended away.
  func requireOverlapForEncoding() throws {
    for (name, axis, minimum) in [
      ("frames", frames, 16), ("height", height, 64), ("width", width, 64),
    ] {
      guard let axis, axis.overlap < minimum else { continue }
      throw Issue(
        ["tiling", .name(name)],
        "must overlap by at least \(minimum) for encoding (got \(axis.overlap))")
    }
  }
}

/// The range that a tile covers along one axis.
struct TileSpan {
  /// The range of latent cells, or of the cells that tiles are cut from.
  var latent: Range<Int>
  var pixels: Range<Int>
  /// The weight of each entry of the output in the blend; nil where all are 1. The weights of all
  /// spans add up to 1.
  var weights: [Float]?

  /// Divides the weights of an axis's spans by their sums. Ramps of neighbors add up to 1 where two
  /// tiles overlap, but short tiles can overlap more than that.
  ///
  /// - Parameter outputs: The range of the output that each span covers.
  static func normalize(_ spans: inout [TileSpan], over outputs: [Range<Int>]) {
    guard spans.count > 1 else {
      if !spans.isEmpty { spans[0].weights = nil }
      return
    }
    var sums = [Float](repeating: 0, count: outputs.map(\.upperBound).max() ?? 0)
    for (span, output) in zip(spans, outputs) {
      for (index, weight) in zip(output, span.weights ?? []) { sums[index] += weight }
    }
    for (tile, output) in outputs.enumerated() {
      spans[tile].weights = spans[tile].weights.map {
        zip(output, $0).map { index, weight in weight / max(sums[index], 1e-8) }
      }
    }
  }
}

/// The tiles of a video, as the product of the spans of its axes.
struct TileGrid {
  /// The space that the weights belong to.
  enum Output { case latent, pixels }

  let frames: [TileSpan]
  let rows: [TileSpan]
  let columns: [TileSpan]

  init(frames: [TileSpan], rows: [TileSpan], columns: [TileSpan]) {
    (self.frames, self.rows, self.columns) = (frames, rows, columns)
  }

  /// - Parameter latent: [.., .., F, H, W]
  init(
    _ tiling: Tiling, latent: (frames: Int, rows: Int, columns: Int), _ factors: CompressionFactors,
    _ output: Output
  )
    throws
  {
    frames = try Self.spans(
      "frames", tiling.frames, latent.frames, factors.time, output, isTime: true)
    rows = try Self.spans(
      "height", tiling.height, latent.rows, factors.height, output, isTime: false)
    columns = try Self.spans(
      "width", tiling.width, latent.columns, factors.width, output, isTime: false)
  }

  private static func spans(
    _ name: String, _ axis: Tiling.Axis?, _ length: Int, _ factor: Int, _ output: Output,
    isTime: Bool
  ) throws -> [TileSpan] {
    var pieces = [Piece(cells: 0..<length, left: 0, right: 0)]
    if let axis {
      try validate(name, axis, factor)
      let overlap = axis.overlap / factor
      pieces = split(length, size: axis.size / factor, overlap: overlap, isTime: isTime)
    }
    var spans = pieces.map { piece in
      let start = piece.cells.lowerBound * factor
      let end = isTime ? (piece.cells.upperBound - 1) * factor + 1 : piece.cells.upperBound * factor
      return TileSpan(
        latent: piece.cells, pixels: start..<end,
        weights: ramps(piece, factor, output, isTime: isTime))
    }
    TileSpan.normalize(&spans, over: spans.map { output == .latent ? $0.latent : $0.pixels })
    return spans
  }

  static func validate(_ name: String, _ axis: Tiling.Axis, _ factor: Int) throws {
    func fail(_ problem: String) -> Issue { Issue(["tiling", .name(name)], problem) }
    guard axis.size >= 2 * factor, axis.size.isMultiple(of: factor) else {
      throw fail(
        "have size \(axis.size); it must be a multiple of \(factor), and at least \(2 * factor)")
    }
    guard axis.overlap >= 0, axis.overlap < axis.size, axis.overlap.isMultiple(of: factor) else {
      throw fail(
        "overlap by \(axis.overlap); it must be a multiple of \(factor), and less than the size, \(axis.size)"
      )
    }
  }

  /// A range of latent cells, and the lengths over which a tile fades in and out.
  private struct Piece {
    var cells: Range<Int>
    var left: Int
    var right: Int
  }

  private static func split(_ length: Int, size: Int, overlap: Int, isTime: Bool) -> [Piece] {
    guard length > size else { return [Piece(cells: 0..<length, left: 0, right: 0)] }
    let step = size - overlap
    let count = (length + size - 2 * overlap - 1) / step
    return (0..<count).map { index in
      let isLast = index == count - 1
      var piece = Piece(
        cells: index * step..<(isLast ? length : index * step + size),
        left: index == 0 ? 0 : overlap,
        right: isLast ? 0 : overlap)
      // The first latent frame of a tile stands for one pixel frame only: later tiles start one
      // latent frame earlier, and give that frame no weight.
      if isTime, index > 0 {
        piece.cells = piece.cells.lowerBound - 1..<piece.cells.upperBound
        piece.left += 1
      }
      return piece
    }
  }

  /// A trapezoid. In space it rises and falls without reaching 0; in time it rises from 0.
  private static func ramps(_ piece: Piece, _ factor: Int, _ output: Output, isTime: Bool)
    -> [Float]
  {
    var (length, left, right) = (piece.cells.count, piece.left, piece.right)
    if output == .pixels {
      length = isTime ? (length - 1) * factor + 1 : length * factor
      left = isTime && left > 0 ? (left - 1) * factor + 1 : left * factor
      right *= factor
    }
    var weights = [Float](repeating: 1, count: length)
    left = min(left, length)
    right = min(right, length)
    for index in 0..<left {
      weights[index] *= isTime ? Float(index) / Float(left) : Float(index + 1) / Float(left + 1)
    }
    for index in 0..<right {
      weights[length - right + index] *= Float(right - index) / Float(right + 1)
    }
    return weights
  }
}

extension TileGrid {
  /// Decodes tile by tile, so that a long video is never in memory as a whole: time is the slowest
  /// axis, columns are the fastest.
  ///
  /// - Parameters:
  ///   - sizes: The batch size, channels, height and width of the decoded frames.
  ///   - dtype: The dtype in which tiles are summed.
  ///   - decode: Returns the pixels of a tile [B, C, frames, H, W], which are changed in place.
  ///   - receive: Called with consecutive frames of the whole size.
  func decode(
    _ sizes: (batch: Int, channels: Int, height: Int, width: Int), dtype: DType, device: Device,
    tile decode: (_ frames: TileSpan, _ rows: TileSpan, _ columns: TileSpan) throws -> Tensor,
    receive: (Tensor) throws -> Void
  ) throws {
    /// All tiles of one span of time, weighted and summed.
    func group(_ t: TileSpan) throws -> Tensor {
      if rows.count * columns.count == 1 {
        let tile = try decode(t, rows[0], columns[0]).to(dtype)
        try tile.applyWeights(t, rows[0], columns[0])
        return tile
      }
      let group = try Tensor.zeros(
        [sizes.batch, sizes.channels, t.pixels.count, sizes.height, sizes.width], dtype: dtype,
        device: device)
      for h in rows {
        for w in columns {
          let tile = try decode(t, h, w).to(dtype)
          try tile.applyWeights(t, h, w)
          try group.narrow(3, h.pixels).narrow(4, w.pixels).add_(tile)
        }
      }
      return group
    }
    // Decoded frames that still overlap with later tiles, and the index of the first of them.
    var pending: (frames: Tensor, start: Int)?
    for t in frames {
      let group = try group(t)
      if let (before, start) = pending {
        let finished = t.pixels.lowerBound - start
        let overlap = before.size(2) - finished
        if finished > 0 { try receive(before.narrow(2, 0, finished)) }
        if overlap > 0 { try group.narrow(2, 0, overlap).add_(before.narrow(2, finished, overlap)) }
      }
      pending = (group, t.pixels.lowerBound)
    }
    if let pending { try receive(pending.frames) }
  }
}

extension Tensor {
  /// Multiplies a tile [B, C, F, H, W] in place by the weights of its spans.
  func applyWeights(_ frames: TileSpan, _ rows: TileSpan, _ columns: TileSpan) throws {
    for (span, shape) in [(frames, [-1, 1, 1]), (rows, [-1, 1]), (columns, [-1])] {
      guard let weights = span.weights else { continue }
      try multiply_(by: Tensor(weights).reshape(shape).to(device))
    }
  }

  /// The part of a dimension that a range covers, sharing memory.
  func narrow(_ dimension: Int, _ range: Range<Int>) throws -> Tensor {
    try narrow(dimension, range.lowerBound, range.count)
  }
}
