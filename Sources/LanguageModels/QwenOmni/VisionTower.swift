// P patches, M tokens (merged patches), D width, W width of the language model.

import NN
import Support
import Torch

/// The vision tower of Qwen2.5-Omni and Qwen3-Omni ("Qwen2.5-Omni Technical Report" and "Qwen3-Omni
/// Technical Report", 2025; `transformers`, `models/qwen2_5_omni` and `models/qwen3_omni_moe`).
///
/// Frames never attend to each other. The families differ in normalization, in feed-forward layers,
/// in windows (2.5), and in a table of positions and outputs of inner blocks (3).
public struct VisionTower: Sendable {
  private let configuration: VisionConfiguration
  private let device: Device
  private let patchWeight: WeightSlot
  private let patchBias: WeightSlot?
  /// Qwen3-Omni.
  private let table: VisionPositionTable?
  private let blocks: [VisionTowerBlock]
  private let merger: VisionTowerMerger
  /// Qwen3-Omni: one for each of the `deepstackBlocks`.
  private let deepstackMergers: [VisionTowerMerger]

  /// The embeddings of the tokens, and Qwen3-Omni's additions to the first layers of the language
  /// model: [M, W] each.
  public typealias Output = (embeddings: Tensor, deepstack: [Tensor])

  /// - Parameter w: The scope `visual` of the thinker.
  /// - Throws: `WeightError` if a tensor is missing or doesn't have the shape in the configuration.
  public init(_ w: Weights, _ c: VisionConfiguration) throws {
    configuration = c
    device = w.device
    // A convolution whose stride is its kernel is one product with the values of a patch.
    let patches = w / "patch_embed" / "proj"
    patchWeight = try patches.slot(
      "weight", shape: [c.width, 3, c.framesPerPatch, c.patchSize, c.patchSize]
    ) { try $0.reshape([c.width, c.patchWidth]) }
    patchBias = c.family == .qwen3 ? try patches.slot("bias", shape: [c.width]) : nil
    table = c.family == .qwen3 ? try VisionPositionTable(w / "pos_embed", c) : nil
    blocks = try (0..<c.depth).map { try VisionTowerBlock(w / "blocks" / $0, c) }
    merger = try VisionTowerMerger(w / "merger", c, normalizesTokens: false)
    deepstackMergers = try c.deepstackBlocks.indices.map {
      try VisionTowerMerger(w / "merger_list" / $0, c, normalizesTokens: true)
    }
  }

  /// - Parameters:
  ///   - pixels: [P, patchWidth], the patches of all images or clips in blocks (`VisionGrid`).
  ///   - grid: Frames, rows and columns of patches of each image or clip.
  /// - Throws: `Issue` if the patches don't fill the grids.
  public func callAsFunction(pixels: Tensor, grid items: [[Int]]) throws -> Output {
    let c = configuration
    let grid = try VisionGrid(items, c)
    guard pixels.shape == [grid.rows.count, c.patchWidth], !items.isEmpty else {
      throw Issue.shape(
        "pixels", pixels.shape, expected: "\([grid.rows.count, c.patchWidth]), as the grids say")
    }
    let weight = patchWeight.tensor
    var x = try pixels.to(device, weight.dtype)
    let order = try grid.order.map { try Tensor($0).to(device) }
    if let order {
      x = try x.unflatten(0, [-1, c.patchesPerToken]).indexSelect(0, order)
        .flatten(from: 0, through: 1)
    }
    x = try x.linear(weight, patchBias?.tensor)
    if let table { x = try x + table(items) }
    let rotation = try VisionRotation(grid, headWidth: c.headWidth, device: device)
    var deepstack: [Tensor] = []
    for (index, block) in blocks.enumerated() {
      let isFull = c.family == .qwen3 || c.fullAttentionBlocks.contains(index)
      x = try block(x, isFull ? grid.frames : grid.windows, rotation)
      if let level = c.deepstackBlocks.firstIndex(of: index) {
        deepstack.append(try deepstackMergers[level](x))
      }
    }
    let merged = try merger(x)
    guard let places = grid.order else { return (merged, deepstack) }
    var inverse = [Int](repeating: 0, count: places.count)
    for (place, token) in places.enumerated() { inverse[token] = place }
    return (try merged.indexSelect(0, Tensor(inverse).to(device)), deepstack)
  }
}

/// A learned square table of positions, read between its entries for each patch of a frame.
struct VisionPositionTable: Sendable {
  private let slot: WeightSlot
  private let configuration: VisionConfiguration

  init(_ w: Weights, _ c: VisionConfiguration) throws {
    slot = try w.slot("weight", shape: [c.tableSize * c.tableSize, c.width])
    configuration = c
  }

  /// The embeddings of the patches of all images or clips, in blocks; the corners of a frame are
  /// those of the table, and all frames of a clip are alike.
  ///
  /// - Returns: [P, D]
  func callAsFunction(_ items: [[Int]]) throws -> Tensor {
    try Tensor.cat(items.map { try frame(rows: $0[1], columns: $0[2]).repeated([$0[0], 1]) })
  }

  /// [rows * columns, D]
  private func frame(rows: Int, columns: Int) throws -> Tensor {
    let (merge, side) = (configuration.mergeSize, configuration.tableSize)
    let (down, across) = (try places(rows), try places(columns))
    var indices = [[Int]](repeating: [], count: 4)
    var shares = [[Float]](repeating: [], count: 4)
    for block in 0..<rows * columns / (merge * merge) {
      for patch in 0..<merge * merge {
        let r = down[block / (columns / merge) * merge + patch / merge]
        let c = across[block % (columns / merge) * merge + patch % merge]
        let corners = [
          (r.low, c.low, (1 - r.share) * (1 - c.share)), (r.low, c.high, (1 - r.share) * c.share),
          (r.high, c.low, r.share * (1 - c.share)), (r.high, c.high, r.share * c.share),
        ]
        for (corner, (row, column, share)) in corners.enumerated() {
          indices[corner].append(row * side + column)
          shares[corner].append(share)
        }
      }
    }
    let table = slot.tensor
    let shape = [4, rows * columns]
    let entries = try Tensor.embedding(
      table, Tensor(indices.flatMap { $0 }, shape: shape).to(table.device))
    let weights = try Tensor(shares.flatMap { $0 }, shape: shape).to(table.device)
    return try (entries.to(.float32) * weights.unsqueeze(-1)).sum([0]).to(table.dtype)
  }

  /// The two entries of a side of the table that each of `count` places lies between.
  private func places(_ count: Int) throws -> [(low: Int, high: Int, share: Float)] {
    let last = configuration.tableSize - 1
    return try Tensor.linspace(from: 0, to: Double(last), steps: count).array(of: Float.self).map {
      let low = Swift.min(Int($0), last)
      return (low, Swift.min(low + 1, last), $0 - Float(low))
    }
  }
}
