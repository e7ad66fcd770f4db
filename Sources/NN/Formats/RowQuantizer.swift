// O outputs, I inputs of a linear layer.

import Torch

/// Quantizes weights in memory to eight bits per element, with a scale for each row.
///
/// The largest element of each row is mapped to the end of the range: 127, or 448 in float8. In
/// int8 a value moves by at most half of a 127th of its row's largest one.
struct RowQuantizer: WeightQuantizer {
  /// int8 or float8E4M3.
  let elementType: DType
  /// The dtype in which scales and quotients are computed; nil for the weight's own.
  let arithmetic: DType?
  /// The number of elements to compute with at once; nil chooses by the device.
  var elementsAtOnce: Int?

  func byteCount(shape: [Int], dtype: DType) -> Int {
    shape[0] * shape[1] * elementType.size + shape[0] * DType.float32.size
  }

  func quantize(_ weight: Tensor, key: String = "weight") throws -> ScaledWeight {
    let (rows, columns) = (weight.size(0), weight.size(1))
    let arithmetic = arithmetic ?? weight.dtype
    let elements = try Tensor.empty([rows, columns], dtype: elementType, device: weight.device)
    let scales = try Tensor.empty([rows, 1], device: weight.device)
    let isInteger = elementType == .int8
    let end = isInteger ? 127.0 : 448
    let elementsAtOnce = elementsAtOnce ?? QuantizationPiece.elements(on: weight.device)
    let step = max(1, elementsAtOnce / max(columns, 1))
    for start in stride(from: 0, to: rows, by: step) {
      let count = min(step, rows - start)
      let values = try weight.narrow(0, start, count).to(arithmetic)
      // The scale of a row of zeros is arbitrary.
      let largest = try values.abs().amax([1], keepdim: true)
        .clamped(min: Scalar(arithmetic.smallestNormal * end))
      let scale = try largest / end
      try scales.narrow(0, start, count).copy_(scale)
      let quotients = try values / scale
      let rounded = isInteger ? try quotients.round() : quotients
      // Rounded scales may push a quotient beyond the end of the range.
      try rounded.clamp_(
        min: Scalar(isInteger && arithmetic != .float32 ? -128 : -end), max: Scalar(end))
      try elements.narrow(0, start, count).copy_(rounded)
    }
    return ScaledWeight(
      elements: WeightSlot(key: key, tensor: elements),
      scale: WeightSlot(key: "\(key)_scale", tensor: scales), dtype: weight.dtype,
      scalesProduct: true)
  }
}
