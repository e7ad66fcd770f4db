import NN
import Torch

/// Tensors that travel together through a stack of blocks, in a fixed order.
public protocol TensorBundle: Sendable {
  /// The tensors that gradients can flow through. Parts that are missing are left out.
  var tensors: [Tensor] { get }
  /// The same bundle with other tensors in the places that `tensors` lists.
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

  /// All weights of the block, trained or not, in the places where its layers find them. Between
  /// calls a plan may replace them by copies that are elsewhere.
  var weights: [WeightSlot] { get }

  func callAsFunction(_ state: State, _ shared: Shared) throws -> State
}
