// O outputs, I inputs of a linear layer.

import Torch

/// The weight of a linear layer that is read when it is needed, such as a matrix of one of many
/// experts.
///
/// It is found and checked when the model is built, from the header of the file alone. Adapters are
/// not supported.
public struct DeferredWeight: Sendable {
  private let key: String
  private let format: any WeightFormat
  private let quantizer: (any WeightQuantizer)?
  private let store: WeightStore

  /// - Parameter quantizer: Quantizes a weight that is not quantized in the file.
  init(
    _ key: String, _ format: any WeightFormat, quantizer: (any WeightQuantizer)?,
    _ store: WeightStore
  ) {
    self.key = key
    self.format = format
    self.quantizer = format.isQuantized ? nil : quantizer
    self.store = store
    store.defer(key)
  }

  /// [O, I]
  public var shape: [Int] { format.shape }

  /// The bytes of the weight in memory once it is loaded.
  public var byteCount: Int {
    let dtype = store.policy.dtype ?? format.dtype
    if let quantizer { return quantizer.byteCount(shape: shape, dtype: dtype) }
    guard format.isQuantized else { return shape.reduce(dtype.size, *) }
    return format.tensors.reduce(0) { $0 + $1.shape.reduce($1.dtype.size, *) }
  }

  /// Announces that the weight will soon be loaded, so that the disk can start. Nothing else is
  /// read ahead.
  public func prepareToLoad() { store.source.prepareToReadOnly(key) }

  /// Loads the weight onto the device of the policy. On the CPU, a weight that is used in the file's
  /// own dtype remains a view of the file.
  ///
  /// - Throws: `WeightError` for values that are not finite, `TorchError` if memory is exhausted.
  public func load() throws -> any StoredWeight {
    let device = store.policy.device
    guard let quantizer else {
      let weight = try store.load(format, key, dtype: store.policy.dtype)
      try weight.move(to: device)
      return weight
    }
    defer { store.source.release(key) }
    let values = try store.read(key, dtype: store.policy.dtype ?? format.dtype, isShared: false)
    return try quantizer.quantize(values.to(device), key: key)
  }

  /// Announces that the weight is not used for now, so that its pages need not stay in this
  /// process's memory.
  public func release() { store.source.release(key) }
}
