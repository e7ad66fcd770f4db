import Torch

extension WeightStorage {
  /// The bytes of the weight of a linear layer in memory, for a memory plan.
  ///
  /// - Parameters:
  ///   - path: The path of the layer.
  ///   - shape: The shape of the values, [outputs, inputs].
  ///   - stored: The dtype in the file.
  ///   - storedBytes: The bytes of a weight that is quantized in the file, without its scales; nil
  ///     for a byte per element.
  ///   - dtype: The dtype of the policy; nil for that of the file.
  package func byteCount(
    path: String, shape: [Int], stored: DType, storedBytes: Int? = nil, dtype: DType?
  ) -> Int {
    let count = shape.reduce(1, *)
    let own = stored.size == 1 ? storedBytes ?? count : nil
    let dtype = dtype ?? (own == nil ? stored : .bfloat16)
    guard !isExcluded(path) else { return own ?? count * dtype.size }
    return switch form {
    case .asStored: own ?? count * dtype.size
    case .dequantized: count * dtype.size
    case .quantized(let quantizer): own ?? quantizer.byteCount(shape: shape, dtype: dtype)
    }
  }
}
