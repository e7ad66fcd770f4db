import NN
import Torch

/// The places of a block's weights in one piece of memory, one after the other.
struct BlockLayout: Equatable, Sendable {
  /// In the order of the slots.
  let parts: [Part]
  let byteCount: Int

  /// The place of a tensor among the bytes.
  struct Part: Equatable, Sendable {
    let offset: Int
    let dtype: DType
    let shape: [Int]

    func view(of bytes: Tensor) throws -> Tensor {
      try bytes.viewBytes(at: offset, as: dtype, shape: shape)
    }
  }

  /// CUDA's own allocations have this alignment, which its kernels are fast with.
  static let alignment = 256

  init(_ slots: [WeightSlot]) {
    var parts: [Part] = []
    var end = 0
    for tensor in slots.map(\.tensor) {
      parts.append(Part(offset: end, dtype: tensor.dtype, shape: tensor.shape))
      end += Self.aligned(tensor.byteCount)
    }
    (self.parts, byteCount) = (parts, end)
  }

  static func aligned(_ byteCount: Int) -> Int {
    (byteCount + alignment - 1) / alignment * alignment
  }

  /// The tensors, as views of memory that holds them: uint8 of at least `byteCount`.
  func views(of bytes: Tensor) throws -> [Tensor] { try parts.map { try $0.view(of: bytes) } }
}
