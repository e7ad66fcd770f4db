import NN
import Torch

/// Normalization by the root mean square, in float32 throughout.
struct GemmaRMSNorm: Sendable {
  /// [width], in float32; nil without a learned scale.
  private let scale: WeightSlot?
  private let width: Int
  private let eps: Double

  /// - Parameter width: The size of the last dimension of the inputs.
  init(_ w: Weights, width: Int, configuration c: GemmaConfiguration) throws {
    let offset = c.normOffset
    scale = try w.slot("weight", shape: [width]) { try $0.to(.float32) + offset }
    self.width = width
    eps = c.normEps
  }

  /// Normalizes without a learned scale.
  init(width: Int, configuration c: GemmaConfiguration) {
    scale = nil
    self.width = width
    eps = c.normEps
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor {
    try x.to(.float32).rmsNorm([width], weight: scale?.tensor, eps: eps).to(x.dtype)
  }
}
