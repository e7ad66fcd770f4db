import Dispatch
import NN
import Synchronization
import Torch

/// Weights that are copied to a GPU before their block runs.
///
/// A few buffers on the device hold one block each. While a block runs, a copy on a stream of its
/// own fills the buffer of the next one. Weights in page-locked memory are copied directly; those
/// in a file are first read into a page-locked buffer by a thread. Frozen weights never travel
/// back. Events order the copies and the kernels, so that the host waits only if the disk is
/// slower than the device.
final class StreamedWeights: WeightSource {
  private let blocks: [Int: BlockBytes]
  private let device: Device
  private let order: StreamingOrder
  private let copies: Stream
  private let reader = DispatchQueue(label: "weights")
  private let state: Mutex<State>

  private struct State {
    var buffers: [DeviceBuffer]
    /// Counts the uses of buffers, to find the one that was used longest ago.
    var uses = 0
  }

  /// - Parameters:
  ///   - weights: Keyed by the index of the block.
  ///   - buffers: The number of blocks on the device at a time, at least 2 to overlap.
  /// - Throws: `TorchError` if the device or the host lacks memory.
  init(_ weights: [Int: PlacedWeights], device: Device, buffers count: Int) throws {
    self.device = device
    order = StreamingOrder(weights.keys.sorted())
    blocks = try weights.mapValues(BlockBytes.init)
    copies = try Stream(on: device)
    let size = blocks.values.map(\.byteCount).max() ?? 0
    let needsStaging = blocks.values.contains { $0.pinned == nil }
    let buffers = try (0..<max(1, min(count, weights.count))).map { _ in
      try DeviceBuffer(byteCount: size, device: device, staging: needsStaging)
    }
    state = Mutex(State(buffers: buffers))
  }

  deinit {
    reader.sync {}
    // The device's memory must not be used for something else while copies write to it. An error
    // here is one of the device, which the next operation reports.
    try? copies.synchronize()
  }

  func allowsGraph(ofBlock index: Int) -> Bool { blocks[index] == nil }

  func acquire(_ index: Int, in pass: BlockPass) throws {
    let block = blocks[index]
    let next = order.next(bufferCount - (block == nil ? 0 : 1), after: index, in: pass)
    if let block {
      guard let buffer = load(index, keeping: [], in: pass) else {
        preconditionFailure("the blocks of a stack run one at a time")
      }
      buffer.isInUse = true
      do {
        try Stream.current(on: device).wait(for: buffer.waitUntilQueued())
        try block.bind(to: buffer)
      } catch {
        buffer.isInUse = false
        throw error
      }
    }
    for other in next { load(other, keeping: [index] + next, in: pass) }
  }

  func release(_ index: Int) throws {
    guard let block = blocks[index], let buffer = buffer(holding: index) else { return }
    block.unbind()
    buffer.released = try Stream.current(on: device).record()
    buffer.isInUse = false
  }

  private var bufferCount: Int { state.withLock { $0.buffers.count } }

  private func buffer(holding index: Int) -> DeviceBuffer? {
    state.withLock { $0.buffers.first { $0.block == index } }
  }

  /// Starts to load a block, unless a buffer has it.
  ///
  /// - Parameter kept: The blocks that must not make room.
  /// - Returns: The block's buffer; nil if all buffers are in use or hold blocks to keep.
  @discardableResult
  private func load(_ index: Int, keeping kept: [Int], in pass: BlockPass) -> DeviceBuffer? {
    guard let block = blocks[index] else { return nil }
    let (buffer, isLoaded) = state.withLock { state -> (DeviceBuffer?, Bool) in
      state.uses += 1
      let found = state.buffers.first { $0.block == index }
      let candidates = state.buffers.filter { buffer in
        !buffer.isInUse && buffer.block.map { !kept.contains($0) } ?? true
      }
      let chosen = found ?? candidates.min { $0.lastUse < $1.lastUse }
      chosen?.lastUse = state.uses
      chosen?.block = index
      return (chosen, found != nil)
    }
    guard let buffer, !isLoaded else { return buffer }
    let filling = buffer.startFilling()
    let after = order.next(1, after: index, in: pass).first.flatMap { blocks[$0] }
    reader.async { [copies] in
      after?.prepareToRead()
      filling.finish(Result { try buffer.fill(from: block, on: copies) })
    }
    return buffer
  }
}

/// The bytes of a block's weights, laid out one after the other.
struct BlockBytes: Sendable {
  private let weights: PlacedWeights
  /// The tensors on the host, in the order of the slots.
  private let hosts: [Tensor]
  let layout: BlockLayout
  /// All tensors in page-locked memory, uint8 [byteCount]; nil if they are read from a file.
  let pinned: Tensor?

  var byteCount: Int { layout.byteCount }

  init(_ weights: PlacedWeights) throws {
    self.weights = weights
    let slots = weights.slots
    layout = BlockLayout(slots)
    guard weights.placement == .host else {
      (hosts, pinned) = (slots.map(\.tensor), nil)
      return
    }
    let memory = try Tensor.pinnedBytes(layout.byteCount)
    hosts = try zip(slots, layout.parts).map { slot, part in
      let copy = try part.view(of: memory)
      try withoutGrad { try copy.copy_(slot.tensor) }
      slot.bind(copy)
      return copy
    }
    pinned = memory
    weights.release()
  }

  func prepareToRead() { if pinned == nil { weights.prepareToRead() } }

  /// Copies the weights into page-locked memory, on several threads: one can't read the page cache
  /// as fast as the bus moves its bytes.
  func read(into staging: Tensor) throws {
    let problem = Mutex<(any Error)?>(nil)
    DispatchQueue.concurrentPerform(iterations: min(4, hosts.count)) { part in
      do {
        for index in stride(from: part, to: hosts.count, by: 4) {
          try hosts[index].copyBytes(to: staging, at: layout.parts[index].offset)
        }
      } catch {
        problem.withLock { $0 = error }
      }
    }
    if let error = problem.withLock({ $0 }) { throw error }
    weights.release()
  }

  func bind(to buffer: DeviceBuffer) throws {
    for (slot, view) in zip(weights.slots, try buffer.views(layout)) {
      slot.bind(view)
    }
  }

  func unbind() { for (slot, host) in zip(weights.slots, hosts) { slot.bind(host) } }
}

/// Memory on the device for the weights of one block at a time.
///
/// The thread that runs the blocks owns all properties except for `staged`, which belongs to the
/// thread that fills the buffer.
final class DeviceBuffer: @unchecked Sendable {
  private let bytes: Tensor
  /// Page-locked memory of the same size; nil if all blocks are in such memory.
  private let staging: Tensor?
  /// The end of the last copy from `staging`.
  private var staged: StreamEvent?
  /// The block that the buffer holds or is being filled with.
  var block: Int?
  var isInUse = false
  var lastUse = 0
  /// The end of the work that used the previous block.
  var released: StreamEvent
  private var filling: Filling?
  private var cachedViews: (layout: BlockLayout, views: [Tensor])?

  init(byteCount: Int, device: Device, staging needsStaging: Bool) throws {
    bytes = try .empty([byteCount], dtype: .uint8, device: device)
    // Work that is queued already may still use the memory that the allocator hands out again.
    released = try Stream.current(on: device).record()
    staging = needsStaging ? try .pinnedBytes(byteCount) : nil
  }

  /// A copy that is being queued by another thread.
  final class Filling: Sendable {
    private let result = Mutex<Result<StreamEvent, any Error>?>(nil)
    private let done = DispatchSemaphore(value: 0)

    func finish(_ result: Result<StreamEvent, any Error>) {
      self.result.withLock { $0 = result }
      done.signal()
    }

    /// Waits until the copy has been queued, and returns its end.
    func wait() throws -> StreamEvent {
      done.wait()
      done.signal()
      return try result.withLock { $0 }!.get()  // set before the signal
    }
  }

  func startFilling() -> Filling {
    let filling = Filling()
    self.filling = filling
    return filling
  }

  /// The end of the copy that fills the buffer.
  func waitUntilQueued() throws -> StreamEvent {
    do {
      guard let filling else { preconditionFailure("a buffer is filled before it is used") }
      return try filling.wait()
    } catch {
      block = nil  // the next run tries again
      throw error
    }
  }

  /// Queues the copy of a block's weights. Called by the thread that reads.
  ///
  /// - Returns: The end of the copy.
  func fill(from block: BlockBytes, on copies: Stream) throws -> StreamEvent {
    try copies.wait(for: released)
    let target = try bytes.viewBytes(at: 0, as: .uint8, shape: [block.byteCount])
    if let pinned = block.pinned {
      try copies.copy(pinned, to: target)
      return try copies.record()
    }
    guard let staging else { preconditionFailure("a file's weights need a buffer on the host") }
    // The previous copy from this memory is usually over long ago.
    if let staged, try !staged.isDone { try staged.synchronize() }
    try block.read(into: staging)
    try copies.copy(staging.viewBytes(at: 0, as: .uint8, shape: [block.byteCount]), to: target)
    let end = try copies.record()
    staged = end
    return end
  }

  /// The tensors of a block in the buffer. Blocks of the same layout share them.
  func views(_ layout: BlockLayout) throws -> [Tensor] {
    if let cachedViews, cachedViews.layout == layout { return cachedViews.views }
    let views = try layout.views(of: bytes)
    cachedViews = (layout, views)
    return views
  }
}
