import Torch

/// A way to quantize a linear layer's weight in memory while it is loaded.
protocol WeightQuantizer: Sendable {
  associatedtype Quantized: StoredWeight

  /// - Parameters:
  ///   - weight: [O, I] in a floating-point dtype, which stays the dtype of the values.
  ///   - key: The key of the weight.
  func quantize(_ weight: Tensor, key: String) throws -> Quantized

  /// The bytes of a quantized weight in memory.
  ///
  /// - Parameters:
  ///   - shape: [O, I]
  ///   - dtype: The dtype of the values.
  func byteCount(shape: [Int], dtype: DType) -> Int
}

/// The number of elements that a quantizer computes with at once.
enum QuantizationPiece {
  /// On a CPU, intermediate results stay in the processor's caches. On a GPU, a step is long enough
  /// for the next one to be launched meanwhile, and the largest matrix of LTX-2 takes four.
  static func elements(on device: Device) -> Int { device == .cpu ? 1 << 18 : 1 << 24 }
}
