import NN
import Torch

/// The direction in which the blocks of a stack run, from which a source knows the next ones.
public enum BlockPass: Sendable {
  /// From the first block to the last, again and again.
  case inference
  /// From the first block to the last. A backward pass follows.
  case forward
  /// From the last block to the first. A forward pass follows.
  case backward
}

/// A source of the weights of a stack's blocks, which need not be on the device while a block does
/// not run.
///
/// A block runs between `acquire` and `release`. Implementations queue copies and never make the
/// host wait for the device. They are used by one thread at a time.
public protocol WeightSource: Sendable {
  /// Whether the graph of a block may be kept between its forward and its backward pass. If not,
  /// the memory of its weights is used for another block in between.
  func allowsGraph(ofBlock index: Int) -> Bool
  /// The tensors in the graph of a block that stand for its parameters, in their order.
  func leaves(of parameters: [Parameter], inBlock index: Int) -> [Tensor]
  /// Puts the weights of a block in the slots of its layers, and starts to load those of the next
  /// blocks.
  func acquire(_ index: Int, in pass: BlockPass) throws
  /// Allows the memory of the block's weights to be used for other blocks, after all work that has
  /// been queued.
  func release(_ index: Int) throws
}

extension WeightSource {
  public func leaves(of parameters: [Parameter], inBlock index: Int) -> [Tensor] {
    parameters.map(\.tensor)
  }

  /// Runs a closure while the weights of a block are in place.
  func with<R>(_ index: Int, in pass: BlockPass, _ body: () throws -> R) throws -> R {
    try acquire(index, in: pass)
    let result: R
    do {
      result = try body()
    } catch {
      try? release(index)  // the error of the block is the one to report
      throw error
    }
    try release(index)
    return result
  }
}

/// Weights that stay on the device.
public struct ResidentWeights: WeightSource {
  public init() {}
  public func allowsGraph(ofBlock index: Int) -> Bool { true }
  public func acquire(_ index: Int, in pass: BlockPass) {}
  public func release(_ index: Int) {}
}

/// Weights that the CPU reads from the memory map of the checkpoint. Only the pages of the blocks
/// that run stay in this process's memory; the system's page cache may keep more.
struct PagedWeights: WeightSource {
  /// Keyed by the index of the block.
  let weights: [Int: PlacedWeights]
  private let order: StreamingOrder

  init(_ weights: [Int: PlacedWeights]) {
    self.weights = weights
    order = StreamingOrder(weights.keys.sorted())
  }

  func allowsGraph(ofBlock index: Int) -> Bool { true }

  func acquire(_ index: Int, in pass: BlockPass) {
    guard weights[index] != nil, let next = order.next(1, after: index, in: pass).first else {
      return
    }
    weights[next]?.prepareToRead()
  }

  func release(_ index: Int) { weights[index]?.release() }
}

/// The order in which the streamed blocks of a stack are needed.
struct StreamingOrder: Sendable {
  /// The streamed blocks, in ascending order.
  let blocks: [Int]

  init(_ blocks: [Int]) { self.blocks = blocks }

  /// The streamed blocks that are needed first after a block.
  ///
  /// After the last block of a pass, these are the first ones of the next pass.
  func next(_ count: Int, after index: Int, in pass: BlockPass) -> [Int] {
    let (later, earlier) = (blocks.filter { $0 > index }, blocks.filter { $0 < index })
    let order =
      switch pass {
      case .inference: later + blocks
      case .forward: later + blocks.reversed()
      case .backward: earlier.reversed() + blocks
      }
    var result: [Int] = []
    for next in order where result.count < count && next != index && !result.contains(next) {
      result.append(next)
    }
    return result
  }
}
