import Torch

/// A scope in a checkpoint that is being generated: its layers are drawn and stored under their
/// keys, in bfloat16 by default.
///
/// It is the counterpart of `Weights`: `w / "attn1" / "to_q"` gives a key. Every value is random,
/// also in biases, norms and tables: a reader that ignores any tensor computes a different result.
/// Scales keep signals of order 1.
struct RandomWeights {
  /// The tensors drawn so far, in order.
  final class Drawn {
    let generator: Generator
    /// The maximum number of elements of a tensor that is drawn; larger ones become `holes`.
    let limit: Int
    var tensors: [(key: String, tensor: Tensor)] = []
    /// The tensors that were only described.
    var holes: [(key: String, dtype: DType, shape: [Int])] = []

    init(_ generator: Generator, limit: Int = .max) {
      self.generator = generator
      self.limit = limit
    }
  }

  private let drawn: Drawn
  private let path: String
  private let dtype: DType

  init(into drawn: Drawn, path: String = "", dtype: DType = .bfloat16) {
    self.drawn = drawn
    self.path = path
    self.dtype = dtype
  }

  static func / (parent: RandomWeights, child: String) -> RandomWeights {
    RandomWeights(
      into: parent.drawn, path: parent.path.isEmpty ? child : "\(parent.path).\(child)",
      dtype: parent.dtype)
  }

  static func / (parent: RandomWeights, child: Int) -> RandomWeights { parent / String(child) }

  /// The same weights under the same prefix, stored in another dtype.
  func stored(as dtype: DType) -> RandomWeights {
    RandomWeights(into: drawn, path: path, dtype: dtype)
  }

  /// Draws normal values around `mean`.
  func normal(_ name: String, _ shape: [Int], mean: Double = 0, deviation: Double) throws {
    try keep(name, shape) { try drawn.generator.normal(shape) * deviation + mean }
  }

  /// Draws uniform values.
  func uniform(_ name: String, _ shape: [Int], from low: Double, to high: Double) throws {
    try keep(name, shape) { try drawn.generator.uniform(shape) * (high - low) + low }
  }

  func linear(_ inputs: Int, _ outputs: Int, bias: Bool = true) throws {
    try normal("weight", [outputs, inputs], deviation: 1 / Double(inputs).squareRoot())
    if bias { try normal("bias", [outputs], deviation: 0.1) }
  }

  /// - Parameters:
  ///   - kernel: One size for each dimension.
  ///   - gain: The size of the output relative to the input's; small where many residuals add up.
  func convolution(_ inputs: Int, _ outputs: Int, kernel: [Int], gain: Double = 1) throws {
    let fanIn = Double(kernel.reduce(inputs, *))
    try normal("weight", [outputs, inputs] + kernel, deviation: gain / fanIn.squareRoot())
    try normal("bias", [outputs], deviation: 0.1)
  }

  /// A transposed convolution in one dimension, whose weight is [inputs, outputs, kernel].
  func upsampling(_ inputs: Int, _ outputs: Int, kernel: Int, stride: Int) throws {
    let fanIn = Double(inputs * kernel) / Double(stride)
    try normal("weight", [inputs, outputs, kernel], deviation: 1 / fanIn.squareRoot())
    try normal("bias", [outputs], deviation: 0.1)
  }

  /// The scale of an RMS norm.
  func norm(_ width: Int) throws { try normal("weight", [width], mean: 1, deviation: 0.1) }

  func layerNorm(_ width: Int) throws {
    try norm(width)
    try normal("bias", [width], deviation: 0.1)
  }

  /// The scale of Gemma's RMS norm, which is stored minus 1.
  func gemmaNorm(_ width: Int, _ name: String = "weight") throws {
    try normal(name, [width], deviation: 0.1)
  }

  /// Additions to the scales, shifts and gates that are computed from the timestep.
  func modulation(_ name: String, rows: Int, _ width: Int) throws {
    try normal(name, [rows, width], deviation: 0.3)
  }

  /// A tensor that isn't random, such as a filter; published files have those too.
  func fixed(_ name: String, _ tensor: Tensor) throws {
    try keep(name, tensor.shape) { tensor }
  }

  private func keep(_ name: String, _ shape: [Int], _ tensor: () throws -> Tensor) throws {
    let key = path.isEmpty ? name : "\(path).\(name)"
    guard shape.reduce(1, *) <= drawn.limit else {
      drawn.holes.append((key, dtype, shape))
      return
    }
    drawn.tensors.append((key, try tensor().to(dtype)))
  }
}
