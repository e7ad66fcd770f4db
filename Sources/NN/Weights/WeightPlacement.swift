import Support
import TensorFiles
import Torch

/// The location of the frozen weights of a block while the block does not run.
public enum WeightPlacement: String, Sendable, CaseIterable {
  /// On the device that computes, for the whole run.
  case resident
  /// In page-locked host memory. They are copied to the device before the block runs.
  case host
  /// In the file of the checkpoint. They are read, through the system's page cache, before the
  /// block runs, so that neither the device nor the host holds all of them.
  ///
  /// A weight that is converted or quantized while it is loaded stays in host memory.
  case file
  /// Divided among the processes that train together, each of which holds a part on its device. They
  /// are gathered before the block runs.
  case sharded
}

/// The locations of the frozen weights of a stack's blocks.
public struct WeightPlacements: Sendable, Equatable {
  private let placements: [WeightPlacement]
  private let others: WeightPlacement

  /// - Parameters:
  ///   - placements: Those of the first blocks.
  ///   - others: That of all other blocks.
  public init(_ placements: [WeightPlacement] = [], others: WeightPlacement = .resident) {
    (self.placements, self.others) = (placements, others)
  }

  /// A number of blocks with a placement, spread evenly over the stack, so that one is loaded while
  /// resident ones run.
  ///
  /// - Parameter count: At most `blocks`.
  public init(_ placement: WeightPlacement, count: Int, of blocks: Int) {
    var placements = [WeightPlacement](repeating: .resident, count: blocks)
    for index in 0..<min(count, blocks) { placements[index * blocks / count] = placement }
    self.init(placements)
  }

  public static let resident = WeightPlacements()
  public static func all(_ placement: WeightPlacement) -> WeightPlacements {
    WeightPlacements(others: placement)
  }

  /// The location of a block's weights.
  public subscript(block: Int) -> WeightPlacement {
    placements.indices.contains(block) ? placements[block] : others
  }
}

/// The frozen weights of one block that are not on the device between its runs.
package struct PlacedWeights: Sendable {
  /// In the order of building.
  package let slots: [WeightSlot]
  package let placement: WeightPlacement
  private let source: any TensorSource

  init(_ slots: [WeightSlot], _ placement: WeightPlacement, _ source: any TensorSource) {
    (self.slots, self.placement, self.source) = (slots, placement, source)
  }

  /// Announces that the weights will soon be read, so that the disk can start.
  package func prepareToRead() { for slot in slots { source.prepareToRead(slot.key) } }

  /// Announces that the weights have been read, so that their pages need not stay in this process's
  /// memory.
  package func release() { for slot in slots { source.release(slot.key) } }
}
