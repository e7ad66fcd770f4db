import Support
import Torch

/// The tiles of a diffusion decoder, which are cut from the input of its fourth stage (ltx-core,
/// `video_vae/diffusion_tiling.py`).
extension VideoVAEConfiguration.DiffusionDecoder {
  /// The frames and pixels of a cell that tiles are cut from: sizes and overlaps of tiles are
  /// multiples of it.
  var tileUnit: CompressionFactors {
    let last = stages[3].upsampling
    return CompressionFactors(
      time: last.time, height: last.height * patchSize, width: last.width * patchSize)
  }

  /// The smallest tile, in cells: windows of the fourth and the last stage have all of their
  /// positions in it.
  var tileFloor: VolumeSize {
    let (before, up) = (stages[3].kernel, stages[3].upsampling)
    return VolumeSize(
      frames: max(before.time, ceilDivide(kernel.time, up.time)),
      rows: max(before.height, ceilDivide(kernel.height, up.height)),
      columns: max(before.width, ceilDivide(kernel.width, up.width)))
  }

  /// The least overlaps of tiles, in frames and in pixels: the distance over which the borders of a
  /// tile change the result.
  var leastOverlap: (frames: Int, pixels: Int) {
    let (before, up) = (stages[3], stages[3].upsampling)
    func halo(_ kernelBefore: Int, _ kernel: Int, _ stride: Int) -> Int {
      max(before.depth * (kernelBefore / 2), ceilDivide(depth * (kernel / 2), stride))
    }
    let time = halo(before.kernel.time, kernel.time, up.time)
    let space = max(
      halo(before.kernel.height, kernel.height, up.height),
      halo(before.kernel.width, kernel.width, up.width))
    return (
      ceilDivide(time * tileUnit.time, 8) * 8, ceilDivide(space * tileUnit.height, 32) * 32
    )
  }

  /// The frames of a tile's context, in cells. The tile that ends the video leaves out the copies
  /// behind it, unless the last stage's windows need some of them.
  func contextFrames(_ cells: Int, endsVideo: Bool) -> Int {
    endsVideo ? max(cells, ceilDivide(kernel.time, stages[3].upsampling.time)) : cells
  }

  /// - Parameter latent: The size of the padded latent.
  /// - Throws: `Issue` for tiles that the decoder can't be tiled by.
  func tileGrid(_ tiling: Tiling, latent: VolumeSize) throws -> TileGrid {
    let (size, unit, floor, least) = (tiledSize(latent: latent), tileUnit, tileFloor, leastOverlap)
    return TileGrid(
      frames: try spans(
        "frames", tiling.frames, size.frames, unit.time, floor.frames, least.frames, isTime: true),
      rows: try spans("height", tiling.height, size.rows, unit.height, floor.rows, least.pixels),
      columns: try spans(
        "width", tiling.width, size.columns, unit.width, floor.columns, least.pixels))
  }

  private func spans(
    _ name: String, _ axis: Tiling.Axis?, _ length: Int, _ unit: Int, _ floor: Int, _ least: Int,
    isTime: Bool = false
  ) throws -> [TileSpan] {
    var pieces = [Self.Piece(cells: 0..<length)]
    if let axis {
      try TileGrid.validate(name, axis, unit)
      guard axis.overlap >= least else {
        throw Issue(
          ["tiling", .name(name)],
          "overlap by \(axis.overlap), expected at least \(least) for this decoder")
      }
      guard axis.size >= floor * unit else {
        throw Issue(
          ["tiling", .name(name)],
          "have size \(axis.size), expected at least \(floor * unit) for this decoder")
      }
      pieces = Self.split(
        length, size: axis.size / unit, overlap: axis.overlap / unit, floor: floor)
    }
    // In time the first cell is one frame shorter.
    let shortening = isTime ? unit - 1 : 0
    var spans = pieces.map { piece in
      let start = piece.cells.lowerBound * unit - (piece.cells.lowerBound > 0 ? shortening : 0)
      let pixels = start..<(piece.cells.upperBound * unit - shortening)
      var weights = [Float](repeating: 1, count: pixels.count)
      for (index, weight) in Self.ramp(piece.left * unit).prefix(pixels.count).enumerated() {
        weights[index] *= weight
      }
      for (index, weight) in Self.ramp(piece.right * unit).prefix(pixels.count).enumerated() {
        weights[pixels.count - 1 - index] *= weight
      }
      return TileSpan(latent: piece.cells, pixels: pixels, weights: weights)
    }
    TileSpan.normalize(&spans, over: spans.map(\.pixels))
    return spans
  }

  /// A range of cells, and the number of them over which a tile fades in and out.
  private struct Piece {
    var cells: Range<Int>
    var left = 0
    var right = 0
  }

  private static func split(_ length: Int, size: Int, overlap: Int, floor: Int) -> [Piece] {
    guard length > max(size, floor - 1) else { return [Piece(cells: 0..<length)] }
    let step = size - overlap
    let count = tileCount(length, size: size, overlap: overlap)
    var pieces = (0..<count).map { index in
      let isLast = index == count - 1
      return Piece(
        cells: index * step..<(isLast ? length : index * step + size),
        left: index == 0 ? 0 : overlap, right: isLast ? 0 : overlap)
    }
    // A small last tile grows to the left.
    if let last = pieces.last, count > 1, last.cells.count < floor {
      let start = length - floor
      let shared = pieces[count - 2].cells.upperBound - start
      pieces[count - 2].right = shared
      pieces[count - 1] = Piece(cells: start..<length, left: shared)
    }
    return pieces
  }

  private static func tileCount(_ length: Int, size: Int, overlap: Int) -> Int {
    length <= size ? 1 : (length + size - 2 * overlap - 1) / (size - overlap)
  }

  /// 1 / (n + 1) ... n / (n + 1)
  private static func ramp(_ count: Int) -> [Float] {
    (0..<count).map { Float($0 + 1) / Float(count + 1) }
  }
}

extension VideoVAEConfiguration.DiffusionDecoder {
  /// More memory than this would hardly save work. As most devices have it, a seed gives the same
  /// video on them.
  private static let usualBytes = 8_000_000_000

  /// The tiles with the least overlap that is computed twice, among those whose decoding fits.
  /// Overlaps are as small as they may be. If nothing fits, the smallest tiles.
  ///
  /// - Parameter limitBytes: The memory beside the weights.
  func recommendedTiling(for video: VideoSize, limitBytes: Int, dtype: DType) -> Tiling {
    let (unit, floor, least) = (tileUnit, tileFloor, leastOverlap)
    let limit = min(limitBytes, Self.usualBytes)
    /// Sizes with their number of tiles, from the smallest.
    func candidates(_ length: Int, _ unit: Int, _ floor: Int, _ overlap: Int, _ multiple: Int)
      -> [(size: Int, count: Int)]
    {
      func rounded(_ size: Int) -> Int { ceilDivide(size, multiple) * multiple }
      // Two ramps fit into a tile.
      let smallest = rounded(max(2 * unit, 2 * overlap, floor * unit, 2 * multiple))
      return stride(from: smallest, through: max(rounded(length), smallest), by: multiple).map {
        ($0, Self.tileCount(length, size: $0, overlap: overlap))
      }
    }
    // Small videos are padded.
    let padded = compressed(video).padded.upsampled(compression, dropsFirst: true)
    let frames = candidates(padded.frames, unit.time, floor.frames, least.frames, 8)
    let rows = candidates(padded.rows, unit.height, floor.rows, least.pixels, 32)
    let columns = candidates(padded.columns, unit.width, floor.columns, least.pixels, 32)
    func tiling(_ t: Int, _ h: Int, _ w: Int) -> Tiling {
      Tiling(
        frames: Tiling.Axis(size: t, overlap: least.frames),
        height: Tiling.Axis(size: h, overlap: least.pixels),
        width: Tiling.Axis(size: w, overlap: least.pixels))
    }
    var best = (frames[0], rows[0], columns[0])
    var bestWork = (Int.max, Int.max)
    for t in frames {
      for h in rows {
        for w in columns {
          let count = t.count * h.count * w.count
          let volume = t.size * h.size * w.size
          let work = (count * volume, -volume)
          guard work < bestWork,
            decodingBytes(video, tiling: tiling(t.size, h.size, w.size), dtype: dtype) <= limit
          else { continue }
          (best, bestWork) = ((t, h, w), work)
        }
      }
    }
    return tiling(best.0.size, best.1.size, best.2.size)
  }

  private func compressed(_ video: VideoSize) -> VideoDecodingSizes {
    VideoDecodingSizes(
      VolumeSize(
        frames: compression.latentFrames(video.frames), rows: video.height / compression.height,
        columns: video.width / compression.width), self)
  }

  /// The bytes of decoding a video, without the weights and the noise, which is in host memory.
  ///
  /// - Parameter tiling: The tiles; nil for the whole video at once.
  func decodingBytes(_ video: VideoSize, tiling: Tiling?, dtype: DType) -> Int {
    var volume = compressed(video).padded
    volume.frames += ghostFrames
    // A stage holds its volume, keys and values, and then its volume and the next one.
    var peak = 0
    for (stage, next) in zip(stages.prefix(3), stages.dropFirst()) {
      let own = volume.count * stage.channels
      volume = volume.upsampled(stage.upsampling, dropsFirst: true)
      peak = max(peak, 3 * own, own + volume.count * next.channels)
    }
    let features = volume.count * stages[3].channels
    let tile = video.tile(tiling)
    // The last stage holds its volume, the context, keys and values.
    let positions = ceilDivide(tile.width, patchSize) * ceilDivide(tile.height, patchSize)
    let last = positions * tile.frames * (3 * channels + contextChannels)
    // The frames of two spans of time and those that are passed on, and the tile's own.
    let pixels = 3 * video.width * video.height * tile.frames + 4 * tile.pixels
    // Temporary tensors of a part of a volume.
    let work = 8 * min(4 * last, WorkSize.onGPU)
    let elements = work + max(peak, features + last + pixels * pixelChannels)
    return elements * dtype.size
  }
}

extension VideoVAEConfiguration.Decoder {
  /// The tiles in which a video is decoded by default.
  ///
  /// - Parameter limitBytes: The memory that tensors may take, beside the weights.
  public func recommendedTiling(for video: VideoSize, limitBytes: Int, dtype: DType) -> Tiling {
    switch self {
    case .convolutional(let decoder): .usual(for: decoder.compression)
    case .diffusion(let decoder):
      decoder.recommendedTiling(for: video, limitBytes: limitBytes, dtype: dtype)
    }
  }
}
