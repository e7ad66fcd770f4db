import Torch

/// A scope in a checkpoint that is being generated: its layers are drawn and stored under their
/// keys, in bfloat16 by default.
///
/// It is the counterpart of `Weights`: `w / "attn1" / "to_q"` gives a key. Scales keep signals of
/// order 1.
package struct RandomWeights {
  package enum Purpose: Sendable {
    /// Every value is random, also in biases, norms and tables: a reader that ignores any tensor
    /// computes a different result.
    case testing
    /// The values that training begins with: biases and tables are 0, and norms don't scale.
    case training
  }

  /// The tensors drawn so far, in order.
  package final class Drawn {
    let generator: Generator
    let purpose: Purpose
    /// The maximum number of elements of a tensor that is drawn; larger ones become `holes`.
    let limit: Int
    package var tensors: [(key: String, tensor: Tensor)] = []
    /// The tensors that were only described.
    var holes: [(key: String, dtype: DType, shape: [Int])] = []

    package init(_ generator: Generator, purpose: Purpose = .testing, limit: Int = .max) {
      self.generator = generator
      self.purpose = purpose
      self.limit = limit
    }
  }

  private let drawn: Drawn
  private let path: String
  private let dtype: DType

  package init(into drawn: Drawn, path: String = "", dtype: DType = .bfloat16) {
    self.drawn = drawn
    self.path = path
    self.dtype = dtype
  }

  package static func / (parent: RandomWeights, child: String) -> RandomWeights {
    RandomWeights(
      into: parent.drawn, path: parent.path.isEmpty ? child : "\(parent.path).\(child)",
      dtype: parent.dtype)
  }

  package static func / (parent: RandomWeights, child: Int) -> RandomWeights {
    parent / String(child)
  }

  /// The same weights under the same prefix, stored in another dtype.
  package func stored(as dtype: DType) -> RandomWeights {
    RandomWeights(into: drawn, path: path, dtype: dtype)
  }

  /// The deviation of values that training begins at 0 or 1 with.
  private func offset(_ deviation: Double) -> Double {
    drawn.purpose == .testing ? deviation : 0
  }

  /// Draws normal values around `mean`.
  package func normal(_ name: String, _ shape: [Int], mean: Double = 0, deviation: Double) throws {
    try keep(name, shape) { try drawn.generator.normal(shape) * deviation + mean }
  }

  /// Draws uniform values.
  package func uniform(_ name: String, _ shape: [Int], from low: Double, to high: Double) throws {
    try keep(name, shape) { try drawn.generator.uniform(shape) * (high - low) + low }
  }

  package func linear(_ inputs: Int, _ outputs: Int, bias: Bool = true) throws {
    try normal("weight", [outputs, inputs], deviation: 1 / Double(inputs).squareRoot())
    if bias { try normal("bias", [outputs], deviation: offset(0.1)) }
  }

  /// - Parameters:
  ///   - kernel: One size for each dimension.
  ///   - gain: The size of the output relative to the input's; small where many residuals add up.
  package func convolution(_ inputs: Int, _ outputs: Int, kernel: [Int], gain: Double = 1) throws {
    let fanIn = Double(kernel.reduce(inputs, *))
    try normal("weight", [outputs, inputs] + kernel, deviation: gain / fanIn.squareRoot())
    try normal("bias", [outputs], deviation: offset(0.1))
  }

  /// A transposed convolution in one dimension, whose weight is [inputs, outputs, kernel].
  package func upsampling(_ inputs: Int, _ outputs: Int, kernel: Int, stride: Int) throws {
    let fanIn = Double(inputs * kernel) / Double(stride)
    try normal("weight", [inputs, outputs, kernel], deviation: 1 / fanIn.squareRoot())
    try normal("bias", [outputs], deviation: offset(0.1))
  }

  /// The scale of an RMS norm.
  package func norm(_ width: Int) throws {
    try normal("weight", [width], mean: 1, deviation: offset(0.1))
  }

  package func layerNorm(_ width: Int) throws {
    try norm(width)
    try normal("bias", [width], deviation: offset(0.1))
  }

  /// The scale of Gemma's RMS norm, which is stored minus 1.
  package func gemmaNorm(_ width: Int, _ name: String = "weight") throws {
    try normal(name, [width], deviation: offset(0.1))
  }

  /// Additions to the scales, shifts and gates that are computed from the timestep.
  package func modulation(_ name: String, rows: Int, _ width: Int) throws {
    try normal(name, [rows, width], deviation: offset(0.3))
  }

  /// A tensor that isn't random, such as a filter; published files have those too.
  package func fixed(_ name: String, _ tensor: Tensor) throws {
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
