import NN
import Synchronization
import Torch

/// Weights that are divided among the ranks of a group.
///
/// Each rank holds an equal part of every block's weights. Before a block runs, all ranks gather its
/// parts; while it runs, those of the next block are gathered. All ranks must run the blocks equally
/// often and in the same order.
final class ShardedWeights: WeightSource {
  private let shards: [Int: BlockShard]
  private let group: ProcessGroup
  /// The blocks that are in use or being gathered.
  private let gathered = Mutex<[Int: GatheredBlock]>([:])

  /// - Parameter shards: Keyed by the index of the block; the same blocks on all ranks.
  init(_ shards: [Int: BlockShard], group: ProcessGroup) {
    (self.shards, self.group) = (shards, group)
  }

  func allowsGraph(ofBlock index: Int) -> Bool { shards[index] == nil }

  func leaves(of parameters: [Parameter], inBlock index: Int) -> [Tensor] {
    guard let shard = shards[index] else { return parameters.map(\.tensor) }
    return parameters.map { $0.shard == nil ? $0.tensor : shard.slot(of: $0).tensor }
  }

  func acquire(_ index: Int, in pass: BlockPass) throws {
    if let shard = shards[index] {
      try shard.bind(gather(index, shard))
    }
    // Not beyond the pass: the optimizer may change the weights before the next one.
    let next =
      pass == .backward
      ? shards.keys.filter { $0 < index }.max() : shards.keys.filter { $0 > index }.min()
    if let next, let shard = shards[next] { _ = try gather(next, shard) }
  }

  func release(_ index: Int) {
    shards[index]?.unbind()
    gathered.withLock { _ = $0.removeValue(forKey: index) }
  }

  /// Starts to gather a block, unless that has been done.
  private func gather(_ index: Int, _ shard: BlockShard) throws -> GatheredBlock {
    if let found = gathered.withLock({ $0[index] }) { return found }
    let block = try shard.gather(group)
    gathered.withLock { $0[index] = block }
    return block
  }
}

/// The weights of a block that are being gathered.
struct GatheredBlock: Sendable {
  /// The bytes of all frozen weights, uint8; nil without frozen weights.
  fileprivate let frozen: (bytes: Tensor, end: ProcessGroup.Pending)?
  /// The parts of all ranks, [ranks, elements], of the trained tensors of one dtype.
  fileprivate let trained: [(parts: Tensor, end: ProcessGroup.Pending)]
}

/// One rank's part of the weights of a block.
struct BlockShard: Sendable {
  private let slots: [WeightSlot]
  private let layout: BlockLayout
  /// Fills the slots while the block does not run: NaN or 0, and no memory.
  private let placeholders: [Tensor]
  /// The part of the frozen weights, uint8, as long on all ranks.
  private let part: Tensor
  private let trained: [Trained]

  /// A trained tensor of the block.
  private struct Trained: Sendable {
    let slot: WeightSlot
    let parameter: Parameter
    let shard: Shard
    let dtype: DType
    let placeholder: Tensor
  }

  /// Takes this rank's part of weights that are in host memory or in a mapped file, and lets go of
  /// the rest.
  ///
  /// - Parameters:
  ///   - weights: The frozen weights.
  ///   - parameters: The trained ones, which are divided already.
  ///   - gatheredDType: The dtype in which trained matrices are gathered; nil for their own.
  /// - Throws: `TorchError` if memory is lacking.
  init(
    _ weights: PlacedWeights, _ parameters: [(slot: WeightSlot, parameter: Parameter)],
    group: ProcessGroup, device: Device, gatheredDType: DType?
  ) throws {
    slots = weights.slots
    layout = BlockLayout(slots)
    let size = BlockLayout.aligned((layout.byteCount + group.worldSize - 1) / group.worldSize)
    let own = try Tensor.zeros([size], dtype: .uint8)
    // Only this part of a mapped file is read.
    for (slot, place) in zip(slots, layout.parts) {
      try slot.tensor.copyOverlap(to: own, at: place.offset - group.rank * size)
    }
    part = try own.to(device)
    weights.release()
    placeholders = try layout.parts.map { place in
      let value = try Tensor.full([1], place.dtype.isFloatingPoint ? Scalar(.nan) : 0)
      return try value.to(place.dtype).expand(place.shape)
    }
    trained = parameters.compactMap { slot, parameter in
      guard let shard = parameter.shard else { return nil }
      // Products are computed in that dtype anyway; sums and norms are not.
      let isMatrix = shard.shape.count == 2 && parameter.key.hasSuffix(".weight")
      return Trained(
        slot: slot, parameter: parameter, shard: shard,
        dtype: isMatrix ? gatheredDType ?? parameter.tensor.dtype : parameter.tensor.dtype,
        placeholder: slot.tensor)
    }
    for (slot, placeholder) in zip(slots, placeholders) { slot.bind(placeholder) }
  }

  /// The trained tensors that are gathered together, in an order that is the same on all ranks.
  private var trainedByDType: [[Trained]] {
    var result: [[Trained]] = []
    for tensor in trained {
      if let index = result.firstIndex(where: { $0[0].dtype == tensor.dtype }) {
        result[index].append(tensor)
      } else {
        result.append([tensor])
      }
    }
    return result
  }

  /// The slot of a parameter of the block.
  func slot(of parameter: Parameter) -> WeightSlot {
    guard let found = trained.first(where: { $0.parameter.key == parameter.key }) else {
      preconditionFailure("\(parameter.key) is not a tensor of this block")
    }
    return found.slot
  }

  /// Starts to gather the block.
  func gather(_ group: ProcessGroup) throws -> GatheredBlock {
    let device = part.device
    let bytes = try Tensor.empty([part.count * group.worldSize], dtype: .uint8, device: device)
    let frozen = part.count == 0 ? nil : (bytes, try group.startAllGather(part, into: bytes))
    let parts = try trainedByDType.map { tensors in
      let own = try withoutGrad {
        try Tensor.cat(tensors.map { try $0.parameter.tensor.detach().to($0.dtype) })
      }
      let all = try Tensor.empty(
        [group.worldSize, own.count], dtype: own.dtype, device: device)
      return (all, try group.startAllGather(own, into: all))
    }
    return GatheredBlock(frozen: frozen, trained: parts)
  }

  /// Waits for a gathered block, and puts its tensors in the slots. Trained ones are leaves.
  func bind(_ block: GatheredBlock) throws {
    if let (bytes, end) = block.frozen {
      try end.wait()
      for (slot, view) in zip(slots, try layout.views(of: bytes)) { slot.bind(view) }
    }
    for (tensors, (parts, end)) in zip(trainedByDType, block.trained) {
      try end.wait()
      var start = 0
      for tensor in tensors {
        let count = tensor.shard.partCount
        let whole = try withoutGrad {
          try tensor.shard.whole(from: parts.narrow(1, start, count))
        }
        tensor.slot.bind(try whole.asLeaf())
        start += count
      }
    }
  }

  func unbind() {
    for (slot, placeholder) in zip(slots, placeholders) { slot.bind(placeholder) }
    for tensor in trained { tensor.slot.bind(tensor.placeholder) }
  }
}
