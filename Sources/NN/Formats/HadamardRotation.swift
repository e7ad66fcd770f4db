// O outputs, I inputs of a linear layer, G inputs of a group.

import Torch

/// The rotation that ConvRot applies to groups of a layer's inputs before the weight is quantized,
/// so that large values are spread over a group: W is stored as quantized W R^T.
///
/// R is the normalized Kronecker power of the regular Hadamard matrix of order 4, whose rows all
/// have the same sum ("ConvRot: Rotation-Based Plug-and-Play 4-bit Quantization for Diffusion
/// Transformers", 2025; comfy-kitchen). It is symmetric and its own inverse.
struct HadamardRotation: Sendable {
  /// [G, G], float32
  let matrix: Tensor

  /// - Parameter group: A power of 4.
  init(group: Int, device: Device) throws {
    let base: [Float] = [1, 1, 1, -1, 1, 1, -1, 1, 1, -1, 1, 1, -1, 1, 1, 1]
    var size = 4
    var elements = base
    while size < group {
      // The Kronecker product: each element becomes a block of 4 x 4.
      let next = size * 4
      var product = [Float](repeating: 0, count: next * next)
      for row in 0..<next {
        for column in 0..<next {
          product[row * next + column] =
            elements[row / 4 * size + column / 4] * base[row % 4 * 4 + column % 4]
        }
      }
      (elements, size) = (product, next)
    }
    precondition(size == group, "\(group) is not a power of 4")
    let norm = Float(size).squareRoot()
    matrix = try Tensor(elements.map { $0 / norm }, shape: [size, size]).to(device)
  }

  /// Rotates the last dimension, group by group: x [..., I] to x R, in x's dtype. The matrix is
  /// exact in every floating-point dtype of 16 bits and more.
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    let shape = x.shape
    let group = matrix.size(0)
    let grouped = try x.reshape(Array(shape.dropLast()) + [shape[shape.count - 1] / group, group])
    return try grouped.matmul(matrix.to(x.device, x.dtype)).reshape(shape)
  }
}

extension Tensor {
  /// Rotates a weight [O, I] like ConvRot before it quantizes. The rotation is its own inverse, so
  /// this also rotates such a weight back.
  ///
  /// - Parameter group: A power of 4 that divides I.
  func rotatedForQuantization(group: Int) throws -> Tensor {
    try HadamardRotation(group: group, device: device)(self)
  }
}
