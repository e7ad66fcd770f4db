import NN
import Synchronization
import Torch

/// Frozen weights that are divided among the ranks of a group.
///
/// Each rank holds an equal part of every block's bytes. Before a block runs, all ranks gather its
/// parts into a buffer; while it runs, those of the next block are gathered into another one. All
/// ranks must run the blocks equally often and in the same order.
final class ShardedWeights: WeightSource {
  private let shards: [Int: BlockShard]
  private let group: ProcessGroup
  private let order: StreamingOrder
  private let state: Mutex<[GatheredBlock]>

  /// - Parameter shards: Keyed by the index of the block; the same blocks on all ranks.
  /// - Throws: `TorchError` if the device lacks memory.
  init(_ shards: [Int: BlockShard], group: ProcessGroup) throws {
    (self.shards, self.group) = (shards, group)
    order = StreamingOrder(shards.keys.sorted())
    let count = shards.values.map(\.part.count).max() ?? 0
    let device = shards.values.first?.part.device ?? .cpu
    let buffers = try (0..<min(MemoryPlanner.buffers, shards.count)).map { _ in
      GatheredBlock(
        bytes: try .empty([count * group.worldSize], dtype: .uint8, device: device))
    }
    state = Mutex(buffers)
  }

  deinit {
    // The memory must not be used for something else while ranks write to it. An error here is one
    // of the group, which its next collective reports.
    for buffer in state.withLock({ $0 }) { try? buffer.gathering?.wait() }
  }

  func allowsGraph(ofBlock index: Int) -> Bool { shards[index] == nil }

  func acquire(_ index: Int, in pass: BlockPass) throws {
    if let shard = shards[index] {
      guard let buffer = try gather(index, shard) else {
        preconditionFailure("the blocks of a stack run one at a time")
      }
      try buffer.gathering?.wait()
      try shard.bind(to: buffer.bytes)
      buffer.isInUse = true
    }
    if let next = order.next(1, after: index, in: pass).first, let shard = shards[next] {
      try gather(next, shard)
    }
  }

  func release(_ index: Int) {
    guard let shard = shards[index] else { return }
    shard.unbind()
    state.withLock { $0.first { $0.block == index } }?.isInUse = false
  }

  /// Starts to gather a block, unless a buffer has it.
  ///
  /// - Returns: The block's buffer; nil if all are in use.
  @discardableResult
  private func gather(_ index: Int, _ shard: BlockShard) throws -> GatheredBlock? {
    let buffers = state.withLock { $0 }
    if let found = buffers.first(where: { $0.block == index }) { return found }
    // With two buffers, the one that is not in use holds the block before this one.
    guard let buffer = buffers.first(where: { !$0.isInUse }) else { return nil }
    try buffer.gathering?.wait()
    buffer.block = index
    let all = try buffer.bytes.viewBytes(
      at: 0, as: .uint8, shape: [shard.part.count * group.worldSize])
    buffer.gathering = try group.startAllGather(shard.part, into: all)
    return buffer
  }
}

/// Memory on the device for one block at a time. The thread that runs the blocks uses it.
private final class GatheredBlock: @unchecked Sendable {
  let bytes: Tensor
  /// The block that the buffer holds, or that is being gathered.
  var block: Int?
  var gathering: ProcessGroup.Pending?
  var isInUse = false

  init(bytes: Tensor) { self.bytes = bytes }
}

/// One rank's part of the frozen weights of a block.
struct BlockShard: Sendable {
  private let slots: [WeightSlot]
  private let layout: BlockLayout
  /// Fills the slots while the block does not run: NaN or 0, and no memory.
  private let placeholders: [Tensor]
  /// uint8, as long on all ranks.
  let part: Tensor

  /// Takes this rank's part of weights that are in host memory, and lets go of the rest.
  ///
  /// - Throws: `TorchError` if memory is lacking.
  init(_ weights: PlacedWeights, group: ProcessGroup, device: Device) throws {
    slots = weights.slots
    layout = BlockLayout(slots)
    let size = BlockLayout.aligned((layout.byteCount + group.worldSize - 1) / group.worldSize)
    let bytes = try Tensor.zeros([size * group.worldSize], dtype: .uint8)
    for (slot, place) in zip(slots, layout.parts) {
      try slot.tensor.copyBytes(to: bytes, at: place.offset)
    }
    part = try bytes.viewBytes(at: group.rank * size, as: .uint8, shape: [size]).clone().to(device)
    weights.release()
    placeholders = try layout.parts.map { place in
      let value = try Tensor.full([1], place.dtype.isFloatingPoint ? Scalar(.nan) : 0)
      return try value.to(place.dtype).expand(place.shape)
    }
    unbind()
  }

  func bind(to bytes: Tensor) throws {
    for (slot, view) in zip(slots, try layout.views(of: bytes)) { slot.bind(view) }
  }

  func unbind() { for (slot, placeholder) in zip(slots, placeholders) { slot.bind(placeholder) } }
}
