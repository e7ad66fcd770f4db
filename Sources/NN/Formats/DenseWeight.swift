import TensorFiles
import Torch

/// Unquantized values in a floating-point dtype that layers compute in.
struct DenseFormat: WeightFormat {
  static let names: [String] = []
  static let companions: [String] = []

  private let key: String
  private let entry: TensorEntry

  init?(_ header: WeightHeader) {
    guard let entry = header.entry, entry.dtype.isFloatingPoint else { return nil }
    (key, self.entry) = (header.key, entry)
  }

  var shape: [Int] { entry.shape }
  // Layers don't compute in float64.
  var dtype: DType { entry.dtype == .float64 ? .float32 : entry.dtype }
  var title: String { "\(entry.dtype)" }
  var isQuantized: Bool { false }

  func load(dtype: DType?, from store: WeightStore) throws -> any StoredWeight {
    DenseWeight(WeightSlot(key: key, tensor: try store.read(key, dtype: dtype ?? self.dtype)))
  }

  func valuesToFuse(dtype: DType?, from store: WeightStore) throws -> Tensor {
    try store.read(key, dtype: nil)
  }

  var tensors: [WeightTensor] {
    [WeightTensor(key: key, dtype: entry.dtype, shape: entry.shape)]
  }

  func encode(_ values: Tensor) throws -> [String: Tensor] {
    [key: try values.to(entry.dtype)]
  }
}

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
