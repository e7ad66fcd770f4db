import Torch

/// A weight whose tensor holds its values.
struct DenseWeight: StoredWeight {
  private let slot: WeightSlot

  init(_ slot: WeightSlot) { self.slot = slot }

  var shape: [Int] { slot.tensor.shape }
  var dtype: DType { slot.tensor.dtype }
  var slots: [WeightSlot] { [slot] }

  func dequantized() throws -> Tensor { slot.tensor }

  func matmul(_ x: Tensor, _ bias: Tensor?, adding term: LowRankTerm?) throws -> Tensor {
    guard let term else { return try x.linear(slot.tensor, bias) }
    return try x.linear(slot.tensor, bias, adaptedBy: term.down, term.up, scale: term.scale)
  }
}
