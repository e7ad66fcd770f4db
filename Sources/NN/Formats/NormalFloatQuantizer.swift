// O outputs, I inputs of a linear layer.

import Torch

/// Quantizes weights in memory to NF4 with bitsandbytes' values: blocks of 64 consecutive elements,
/// across rows, share the absolute value of their largest element in float32.
struct NormalFloatQuantizer: WeightQuantizer {
  static let block = 64

  /// The number of elements to compute with at once; nil chooses by the device.
  var elementsAtOnce: Int?

  func byteCount(shape: [Int], dtype: DType) -> Int {
    let count = shape[0] * shape[1]
    return (count + 1) / 2 + (count + Self.block - 1) / Self.block * DType.float32.size
      + CodeBook.pairBytes
  }

  func quantize(_ weight: Tensor, key: String = "weight") throws -> PackedWeight {
    let (codes, largest) = try quantize(weight)
    return PackedWeight(
      codes: WeightSlot(key: key, tensor: codes),
      scales: WeightSlot(key: "\(key).absmax", tensor: largest),
      coding: .pairs(
        values: WeightSlot(
          key: "\(key).quant_map", tensor: try CodeBook.normalFloat.pairs(on: weight.device))),
      shape: weight.shape, group: Self.block, dtype: weight.dtype)
  }

  /// Returns two codes per byte, uint8 [elements / 2, rounded up], and the scale of each block,
  /// float32.
  func quantize(_ weight: Tensor) throws -> (codes: Tensor, largest: Tensor) {
    let elements = try weight.flatten()
    let count = elements.count
    let whole = count / Self.block * Self.block
    let blocks = (count + Self.block - 1) / Self.block
    let codes = try Tensor.empty([(count + 1) / 2], dtype: .uint8, device: weight.device)
    let largest = try Tensor.empty([blocks], device: weight.device)
    let elementsAtOnce = elementsAtOnce ?? QuantizationPiece.elements(on: weight.device)
    let step = max(1, elementsAtOnce / Self.block) * Self.block
    for start in stride(from: 0, to: whole, by: step) {
      let length = min(step, whole - start)
      let values = try elements.narrow(0, start, length).to(.float32)
        .reshape([length / Self.block, Self.block])
      let ends = try values.abs().amax([1], keepdim: true)
      let scaled = try (values * ends.clamped(min: Scalar(Self.smallest)).reciprocal())
        .clamped(min: -1, max: 1)
      try largest.narrow(0, start / Self.block, length / Self.block).copy_(ends.flatten())
      try codes.narrow(0, start / 2, length / 2)
        .copy_(CodeBook.packed(CodeBook.normalFloat.codes(of: scaled)))
    }
    if whole < count {
      // bitsandbytes divides the elements of an incomplete block instead of multiplying them.
      let values = try elements.narrow(0, whole, count - whole).to(.float32)
      let end = try values.abs().amax([0], keepdim: true).clamped(min: Scalar(Self.smallest))
      let scaled = try (values / end).clamped(min: -1, max: 1)
      try largest.narrow(0, blocks - 1, 1).copy_(end)
      let padded = try scaled.count.isMultiple(of: 2) ? scaled : scaled.pad([0, 1])
      try codes.narrow(0, whole / 2, (count - whole + 1) / 2)
        .copy_(CodeBook.packed(CodeBook.normalFloat.codes(of: padded)))
    }
    return (codes, largest)
  }

  /// Keeps blocks of zeros from dividing by 0.
  private static let smallest = 1e-38
}
