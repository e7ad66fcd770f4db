import NN
import Torch

/// Tensors that travel together through a stack of blocks, in a fixed order.
public protocol TensorBundle: Sendable {
  /// The tensors that gradients can flow through. Missing parts are omitted.
  var tensors: [Tensor] { get }
  /// Returns the same bundle with other tensors, in the order of `tensors`.
  func replacing(_ tensors: [Tensor]) -> Self
}

/// One block of an ordered stack.
public protocol Block: Sendable {
  /// The tensors that a block receives from the one before and hands to the next.
  associatedtype State: TensorBundle
  /// The tensors that all blocks of a pass read: modulation, text, positions.
  associatedtype Shared: TensorBundle

  /// The tensors of the block that are trained.
  var parameters: [Parameter] { get }

  /// All weights of the block, trained or not, in the slots that its layers read. Between calls, an
  /// execution plan may replace them by copies on another device.
  var weights: [WeightSlot] { get }

  func callAsFunction(_ state: State, _ shared: Shared) throws -> State
}
