import Torch

/// The part of a tensor that one of several ranks holds.
///
/// The elements are divided in their order into equal parts; zeros fill up the last ones.
public struct Shard: Sendable, Equatable {
  /// The shape of the whole tensor.
  public let shape: [Int]
  public let index: Int
  public let count: Int

  public init(shape: [Int], index: Int, count: Int) {
    (self.shape, self.index, self.count) = (shape, index, count)
  }

  private var elements: Int { shape.reduce(1, *) }

  /// The number of elements of each part.
  public var partCount: Int { (elements + count - 1) / count }

  /// All parts of a whole tensor, [count, partCount].
  public func parts(of whole: Tensor) throws -> Tensor {
    let missing = partCount * count - elements
    let flat = try whole.reshape([-1])
    let padded =
      missing == 0
      ? flat
      : try Tensor.cat([flat, .zeros([missing], dtype: flat.dtype, device: flat.device)])
    return try padded.reshape([count, partCount])
  }

  /// This rank's part of a whole tensor, [partCount], in memory of its own. Only this part is read,
  /// unless zeros fill up the last one.
  ///
  /// - Parameters:
  ///   - device: The device of the part; nil for that of the whole tensor.
  ///   - dtype: Its dtype, to which it is converted on the device; nil for that of the whole tensor.
  public func part(
    of whole: Tensor, on device: Device? = nil, as dtype: DType? = nil
  ) throws -> Tensor {
    let parts = try parts(of: whole)
    let part = try parts.select(0, index).to(device ?? whole.device).to(dtype ?? whole.dtype)
    return try part.sharesStorage(with: parts) ? part.clone() : part
  }

  /// The whole tensor from all parts.
  ///
  /// - Parameter parts: [count, partCount], with any strides.
  public func whole(from parts: Tensor) throws -> Tensor {
    try parts.reshape([-1]).narrow(0, 0, elements).reshape(shape)
  }
}
