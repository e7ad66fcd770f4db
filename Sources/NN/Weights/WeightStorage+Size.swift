import Torch

extension WeightStorage {
  /// The bytes of the weight of a linear layer in memory, for a memory plan.
  ///
  /// - Parameters:
  ///   - path: The path of the layer.
  ///   - shape: [outputs, inputs]
  ///   - stored: The dtype in the file.
  ///   - dtype: The dtype of the policy; nil for that of the file.
  package func byteCount(path: String, shape: [Int], stored: DType, dtype: DType?) -> Int {
    let count = shape.reduce(1, *)
    let isQuantized = stored.size == 1
    let converted = count * (dtype ?? stored).size
    guard !isExcluded(path) else { return isQuantized ? count : converted }
    return switch form {
    case .asStored: isQuantized ? count : converted
    case .dequantized: converted
    case .quantized: isQuantized ? count : count + shape[0] * DType.float32.size
    }
  }
}
