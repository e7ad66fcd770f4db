import Torch

/// The place where a layer finds one of its weights.
///
/// A layer reads `tensor` at every call instead of keeping the tensor, so that an execution plan
/// can decide where the weight is between calls: on the device that computes, in host memory, or in
/// shards. A resident weight costs one more reference, and no lock.
///
/// A slot is unchecked `Sendable`, like `Tensor`: any number of threads may read it, but
/// `replace(with:)` must be ordered with all reads. Plans replace the weights of a block before or
/// after it runs, on the thread that runs it.
public final class WeightSlot: Sendable {
  /// The key of the weight in the unified layout of the checkpoint.
  public let key: String
  /// Whether training changes the weight; its tensor is a leaf that records gradients.
  public let isTrained: Bool
  private nonisolated(unsafe) var current: Tensor

  public init(key: String, tensor: Tensor) {
    self.key = key
    isTrained = tensor.requiresGrad
    current = tensor
  }

  /// The weight, on its current device.
  public var tensor: Tensor { current }

  /// Puts a copy of the weight on another device in the slot, or the original back, without the
  /// checks of `replace(with:)`: streaming does so for every tensor of a block at every run.
  package func bind(_ copy: Tensor) { current = copy }

  /// Puts a tensor with the same values in the slot: a copy on another device, for example.
  ///
  /// - Precondition: The tensor has the shape and dtype of the previous one, and is a leaf that
  ///   records gradients if the weight is trained.
  public func replace(with tensor: Tensor) {
    precondition(
      tensor.shape == current.shape && tensor.dtype == current.dtype,
      "\(key): a slot of \(current.dtype) \(current.shape) can't hold \(tensor.dtype) "
        + "\(tensor.shape)"
    )
    precondition(
      tensor.requiresGrad == isTrained && tensor.isLeaf,
      "\(key): a weight is a leaf, which records gradients exactly when it is trained")
    current = tensor
  }
}
