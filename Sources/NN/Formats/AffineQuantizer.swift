// O outputs, I inputs of a linear layer, G elements of a group, N groups, R rows of bytes.

import Torch

/// Quantizes weights in memory to 4 or 2 bits per element, with a scale and a shift for each group
/// of a row's elements, to the values of optimum-quanto (`qint4` and `qint2` with `MaxOptimizer`).
///
/// The smallest element of a group is mapped to code 0, the largest to the last code. Everything is
/// computed in the weight's own dtype, as quanto does.
struct AffineQuantizer: WeightQuantizer {
  /// 4 or 2.
  let bits: Int
  /// The number of elements to compute with at once; nil chooses by the device.
  var elementsAtOnce: Int?

  /// The size of the groups by quanto's rule: 128, or less in steps of 32 until it divides the
  /// inputs; the complete row if nothing does, and for up to 128 inputs.
  static func group(inputs: Int) -> Int {
    let sizes = inputs > 128 ? [128, 96, 64, 32] : []
    return sizes.first { inputs.isMultiple(of: $0) } ?? inputs
  }

  func byteCount(shape: [Int], dtype: DType) -> Int {
    let group = Self.group(inputs: shape[1])
    let groups = group == 0 ? 0 : shape[0] * shape[1] / group
    let perByte = 8 / bits
    return (groups + perByte - 1) / perByte * group + 2 * groups * dtype.size
  }

  func quantize(_ weight: Tensor, key: String = "weight") throws -> PackedWeight {
    let (outputs, inputs) = (weight.size(0), weight.size(1))
    let group = Self.group(inputs: inputs)
    let count = group == 0 ? 0 : outputs * inputs / group
    let last = 1 << bits - 1
    let groups = try weight.reshape([count, group])
    let codes = try Tensor.empty([count, group], dtype: .uint8, device: weight.device)
    let scales = try Tensor.empty([count, 1], dtype: weight.dtype, device: weight.device)
    let shifts = try Tensor.empty([count, 1], dtype: weight.dtype, device: weight.device)
    let elementsAtOnce = elementsAtOnce ?? QuantizationPiece.elements(on: weight.device)
    let step = max(1, elementsAtOnce / max(group, 1))
    for start in stride(from: 0, to: count, by: step) {
      let length = min(step, count - start)
      let values = try groups.narrow(0, start, length)
      let smallest = try values.amin([1], keepdim: true)
      let scale = try (values.amax([1], keepdim: true) - smallest) / Double(last)
      let shift = try -smallest
      try scales.narrow(0, start, length).copy_(scale)
      try shifts.narrow(0, start, length).copy_(shift)
      // A group of equal elements has scale 0; its elements are -shift, whatever their codes.
      let divisor = try scale.maskedFill(scale.equal(to: 0), 1)
      let rounded = try ((values + shift) / divisor).round()
      try rounded.clamp_(min: 0, max: Scalar(last))
      try codes.narrow(0, start, length).copy_(rounded)
    }
    return PackedWeight(
      codes: WeightSlot(key: key, tensor: try packed(codes)),
      scales: WeightSlot(key: "\(key)_scale", tensor: scales),
      coding: .planar(bits: bits, shifts: WeightSlot(key: "\(key)_shift", tensor: shifts)),
      shape: [outputs, inputs], group: group, dtype: weight.dtype)
  }

  /// Packs codes [N, G] into bytes [R, G]: byte r holds the codes of the groups r, R + r, … from its
  /// lowest bits up.
  private func packed(_ codes: Tensor) throws -> Tensor {
    let perByte = 8 / bits
    let (count, group) = (codes.size(0), codes.size(1))
    let rows = (count + perByte - 1) / perByte
    let bytes = try codes.narrow(0, 0, rows).clone()
    for part in 1..<perByte where part * rows < count {
      let length = min(rows, count - part * rows)
      try bytes.narrow(0, 0, length).add_(
        codes.narrow(0, part * rows, length), scale: Scalar(1 << (bits * part)))
    }
    return try bytes.reshape([rows, group])
  }
}
