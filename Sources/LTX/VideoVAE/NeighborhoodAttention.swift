// T H W frames, rows, columns of a volume, C channels, N positions of a block of queries, M of
// their keys. Volumes are [T, H, W, C].

import NN
import Support
import Torch

/// Attention of each position of a volume to its neighborhood, with rotary positions (ltx-core,
/// `video_vae/transformer/attention.py`).
///
/// A block of the decoder takes at least 32 C^2 + 4 k C operations per position: 8 C^2 for the
/// linear layers here, 4 k C for the k positions of a window, 24 C^2 for the feed-forward. With
/// 128 channels and windows of 3 x 7 x 7, as in the last stage of the published decoder, windows are
/// an eighth of that.
struct NeighborhoodAttention: Sendable {
  private let toQuery: ChannelLinear
  private let toKey: ChannelLinear
  private let toValue: ChannelLinear
  private let toOut: ChannelLinear
  /// [head size], in the order of `RotaryVolume`.
  private let queryNorm: Tensor
  private let keyNorm: Tensor
  private let channels: Int
  private let headSize: Int
  private var heads: Int { channels / headSize }

  /// - Parameter gate: The name of a static gate in the scope above, which becomes part of the
  ///   output's weight.
  init(_ w: Weights, channels: Int, headSize: Int, gate: StaticGate? = nil) throws {
    self.channels = channels
    self.headSize = headSize
    let fused = w / "qkv"
    let weight = try fused.tensor("weight", shape: [3 * channels, channels])
    let bias = try fused.tensor("bias", shape: [3 * channels])
    let inHead = RotaryVolume.order(headSize: headSize)
    let order = try Tensor(
      stride(from: 0, to: channels, by: headSize).flatMap { head in inHead.map { head + $0 } }
    ).to(weight.device)
    func rows(_ index: Int) throws -> (Tensor, Tensor) {
      let first = index * channels
      return (try weight.narrow(0, first, channels), try bias.narrow(0, first, channels))
    }
    func ordered(_ index: Int) throws -> ChannelLinear {
      let (weight, bias) = try rows(index)
      return ChannelLinear(
        weight: try weight.indexSelect(0, order), bias: try bias.indexSelect(0, order))
    }
    (toQuery, toKey) = (try ordered(0), try ordered(1))
    let value = try rows(2)
    toValue = ChannelLinear(weight: value.0, bias: value.1)
    toOut = try ChannelLinear(w / "proj", inputs: channels, outputs: channels, gate: gate)
    let place = try Tensor(inHead).to(weight.device)
    queryNorm = try (w / "q_norm").tensor("weight", shape: [headSize]).indexSelect(0, place)
    keyNorm = try (w / "k_norm").tensor("weight", shape: [headSize]).indexSelect(0, place)
  }

  /// Adds the attention of the normalized volume to the volume.
  ///
  /// - Parameter norm: The norm before attention, which is applied to parts of the volume.
  func add(to x: Tensor, norm: VolumeNorm, _ windows: NeighborhoodWindows) throws {
    let size = windows.size
    let width = size.columns + 2 * windows.halo
    let shape = [size.frames, size.rows, width, channels]
    let keys = try Tensor.empty(shape, dtype: x.dtype, device: x.device)
    let values = try Tensor.empty(shape, dtype: x.dtype, device: x.device)
    let work = WorkSize(x.device)
    for frames in work.parts(of: size.frames, elements: size.rows * width * channels) {
      let part = try norm(x.narrow(0, frames))
      let projected = try headNorm(toKey(part), keyNorm)
      let turned = try windows.rotary.rotate(
        withHalo(projected, windows.halo), from: frames.lowerBound, includesHalo: true)
      try keys.narrow(0, frames).copy_(turned.flatten(from: 3))
      try values.narrow(0, frames).copy_(withHalo(toValue(part), windows.halo))
    }
    // From here on only the queries' own positions are read from x, so it is changed part by part.
    let memory = (
      keys: try keys.flatten(from: 0, through: 2), values: try values.flatten(from: 0, through: 2)
    )
    for (run, groups) in windows.runs {
      let blockElements = run.blockSize * size.rows * size.columns * channels
      for blocks in work.parts(of: run.blockCount, elements: blockElements) {
        let first = run.start + blocks.lowerBound * run.blockSize
        let part = try x.narrow(0, first, blocks.count * run.blockSize)
        let queries = try windows.rotary.rotate(
          headNorm(toQuery(norm(part)), queryNorm), from: first, includesHalo: false)
        let mixed = try Tensor.empty(part.shape, dtype: x.dtype, device: x.device)
        for group in groups {
          try attend(queries.flatten(from: 3), memory, run, blocks, group, into: mixed, work)
        }
        try part.add_(toOut(mixed))
      }
    }
  }

  /// The attention of a group of blocks.
  ///
  /// - Parameters:
  ///   - queries: [frames of the blocks, H, W, C]
  ///   - memory: Keys and values [T * H * W, C].
  ///   - output: As the queries.
  private func attend(
    _ queries: Tensor, _ memory: (keys: Tensor, values: Tensor), _ run: NeighborhoodWindows.Run,
    _ blocks: Range<Int>, _ group: NeighborhoodWindows.Group, into output: Tensor, _ work: WorkSize
  ) throws {
    let (rows, columns) = (group.rows, group.columns)
    let counts = [blocks.count, rows.blockCount, columns.blockCount]
    let sizes = [run.blockSize, rows.blockSize, columns.blockSize]
    let (total, queryCount) = (counts.reduce(1, *), sizes.reduce(1, *))
    let keyCount = run.keyCount * rows.keyCount * columns.keyCount
    /// [blocks, N as three axes, C] as a view of a volume.
    func blockwise(_ volume: Tensor) throws -> Tensor {
      try volume.narrow(1, rows.start, rows.queryCount).narrow(2, columns.start, columns.queryCount)
        .unflatten(2, [counts[2], sizes[2]]).unflatten(1, [counts[1], sizes[1]])
        .unflatten(0, [counts[0], sizes[0]]).permute([0, 2, 4, 1, 3, 5, 6])
    }
    let gathered = try blockwise(queries).reshape([total, queryCount, heads, headSize])
    let indices = try
      (group.keys.frames.narrow(0, blocks).reshape([-1, 1, 1, run.keyCount, 1, 1])
      + group.keys.rows.reshape([1, counts[1], 1, 1, rows.keyCount, 1])
      + group.keys.columns.reshape([1, 1, counts[2], 1, 1, columns.keyCount])).flatten()
    let mixed = try Tensor.empty(
      [total, queryCount, channels], dtype: queries.dtype, device: queries.device)
    for part in work.gathered(total, elements: keyCount * channels) {
      let places = try indices.narrow(0, part.lowerBound * keyCount, part.count * keyCount)
      func windows(_ memory: Tensor) throws -> Tensor {
        try memory.indexSelect(0, places)
          .reshape([part.count, keyCount, heads, headSize]).transpose(1, 2)
      }
      let found = try Tensor.scaledDotProductAttention(
        gathered.narrow(0, part).transpose(1, 2), windows(memory.keys), windows(memory.values),
        mask: group.mask)
      try mixed.narrow(0, part).copy_(found.transpose(1, 2).flatten(from: 2))
    }
    try blockwise(output).copy_(mixed.reshape(counts + sizes + [channels]))
  }

  /// [.., C] to [.., heads, head size], normalized.
  private func headNorm(_ x: Tensor, _ weight: Tensor) throws -> Tensor {
    try x.unflatten(-1, [heads, headSize]).rmsNorm(weight: weight, eps: VolumeNorm.eps)
  }

  /// Copies of the edge columns on both sides. They get positions of their own afterwards.
  private func withHalo(_ x: Tensor, _ halo: Int) throws -> Tensor {
    guard halo > 0 else { return x }
    var copies = x.shape
    copies[2] = halo
    return try Tensor.cat(
      [
        x.narrow(2, 0, 1).expand(copies), x, x.narrow(2, x.size(2) - 1, 1).expand(copies),
      ], 2)
  }
}

/// The size of the parts in which large volumes are computed: on a CPU, its caches should hold the
/// temporary tensors.
struct WorkSize {
  /// The max elements of a temporary tensor.
  private let elements: Int
  /// The max elements of keys that are gathered at a time.
  private let gathered: Int

  static let onGPU = 1 << 25
  /// The max batch of a fused attention kernel.
  private static let maxBatch = 32_768

  init(_ device: Device) {
    (elements, gathered) = device == .cpu ? (1 << 20, 1 << 18) : (Self.onGPU, Self.onGPU)
  }

  /// Divides a number of items.
  ///
  /// - Parameter elements: The elements of one item.
  func parts(of count: Int, elements: Int) -> [Range<Int>] {
    Self.parts(of: count, size: self.elements / elements)
  }

  /// Divides a number of blocks whose keys are gathered.
  ///
  /// - Parameter elements: The elements of the keys of one block.
  func gathered(_ count: Int, elements: Int) -> [Range<Int>] {
    Self.parts(of: count, size: min(gathered / elements, Self.maxBatch))
  }

  private static func parts(of count: Int, size: Int) -> [Range<Int>] {
    let size = max(1, size)
    return stride(from: 0, to: count, by: size).map { $0..<min($0 + size, count) }
  }
}
