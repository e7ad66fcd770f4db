// O outputs, I inputs of a linear layer.

import TensorFiles
import Torch

/// NVFP4: 4-bit floats (E2M1), a float8 scale for each 16 elements, and a float32 scale for the
/// tensor, as ComfyUI and upstream write it.
///
/// Two elements share a byte, the first in the upper bits. The scales of the blocks, [O, I / 16],
/// are padded to multiples of 128 rows and 4 columns and stored in tiles of that size, in the order
/// in which GPUs multiply them (cuBLAS, "1D block scaling factors layout"). Other programs store
/// them row by row; if padding shows that order, or anything shows that `ModelOpt` wrote the
/// weight, it is refused.
struct NVFP4Format: WeightFormat {
  static let name = "nvfp4"
  static let names = [name]
  static let companions = ["weight_scale", "weight_scale_2", "input_scale"]

  static let block = 16
  private static let tile = (rows: 128, columns: 4)
  /// The largest values of an element and of a block's scale.
  private static let ends = (element: 6.0, scale: DType.float8E4M3.largestFinite)

  private let key: String
  private let scaleKey: String
  private let tensorScaleKey: String
  private let tensorScaleShape: [Int]
  /// [O, I]
  let shape: [Int]
  let title = NVFP4Format.name
  let dtype = DType.bfloat16

  init?(_ header: WeightHeader) throws {
    guard let entry = header.entry else { return nil }
    let keys = (
      scale: header.companion("weight_scale"), tensor: header.companion("weight_scale_2")
    )
    let entries = header.source.entries
    let scale = keys.scale.flatMap { entries[$0] }
    let tensorScale = keys.tensor.flatMap { entries[$0] }
    if header.description == nil {
      guard entry.dtype == .uint8, scale?.dtype == .float8E4M3, tensorScale != nil else {
        return nil
      }
    }
    let advice = UnsupportedFormat.advice
    guard entry.dtype == .uint8, entry.shape.count == 2,
      (entry.shape[1] * 2).isMultiple(of: Self.block)
    else {
      throw header.error(
        "is \(entry.dtype) of shape \(entry.shape) (expected uint8 with two elements in each byte, "
          + "as \(Self.name) has them). \(advice)")
    }
    guard let scaleKey = keys.scale, let scale, let tensorKey = keys.tensor, let tensorScale else {
      throw header.error(
        "is \(Self.name), but has no scales (expected \(header.name)_scale and "
          + "\(header.name)_scale_2). \(advice)")
    }
    if let evidence = ModelOpt.evidence(header) {
      throw header.error(
        "is NVFP4 (4-bit floats with a scale for each 16) as NVIDIA ModelOpt packs it, which is not "
          + "supported (shown by \(evidence)). \(advice)")
    }
    let shape = [entry.shape[0], entry.shape[1] * 2]
    if let description = header.description {
      try description.options([])
      if let said = description.shape, said != shape {
        throw header.error(
          "has shape \(shape), but \(QuantizationDescription.tensorName) says \(said)")
      }
    }
    let stored = Self.storedScaleShape(shape)
    guard scale.dtype == .float8E4M3, scale.shape == stored else {
      if scale.shape == [shape[0], shape[1] / Self.block] {
        throw header.error(
          "has the scales of NVFP4 (4-bit floats with a scale for each 16) row by row, as ModelOpt "
            + "writes them, which is not supported. \(advice)", key: scaleKey)
      }
      throw header.error(
        "is \(scale.dtype) of shape \(scale.shape) (expected float8_e4m3fn of shape \(stored), "
          + "the scales of \(Self.name)). \(advice)", key: scaleKey)
    }
    guard tensorScale.dtype == .float32, tensorScale.shape.allSatisfy({ $0 == 1 }) else {
      throw header.error(
        "is \(tensorScale.dtype) of shape \(tensorScale.shape) (expected one float32, the scale of "
          + "the tensor). \(advice)", key: tensorKey)
    }
    (key, self.scaleKey, tensorScaleKey) = (header.key, scaleKey, tensorKey)
    (self.shape, tensorScaleShape) = (shape, tensorScale.shape)
  }

  private static func storedScaleShape(_ shape: [Int]) -> [Int] {
    func padded(_ size: Int, to multiple: Int) -> Int {
      (size + multiple - 1) / multiple * multiple
    }
    return [
      padded(shape[0], to: tile.rows), padded(shape[1] / block, to: tile.columns),
    ]
  }

  func load(dtype: DType?, from store: WeightStore) throws -> any StoredWeight {
    let tensorScale = try store.read(tensorScaleKey, dtype: .float32)
    guard try tensorScale.item() > 0 else {
      throw WeightError(
        file: store.source.file(of: tensorScaleKey), key: tensorScaleKey,
        problem: "must be positive (got \(Float(try tensorScale.item()))); the file is damaged")
    }
    // Models that are only inspected read almost nothing.
    let scales =
      try store.policy.isInspected
      ? Tensor.empty([shape[0], shape[1] / Self.block], dtype: .float8E4M3)
      : Self.inRows(store.read(scaleKey, dtype: nil), shape: shape)
    return PackedWeight(
      codes: WeightSlot(key: key, tensor: try store.read(key, dtype: nil)),
      scales: WeightSlot(key: scaleKey, tensor: scales),
      coding: .pairs(
        values: WeightSlot(
          key: "\(key)_values", tensor: try CodeBook.e2m1.pairs(on: store.device(of: key)))),
      tensorScale: WeightSlot(key: tensorScaleKey, tensor: try tensorScale.reshape([1])),
      shape: shape, group: Self.block, dtype: dtype ?? self.dtype)
  }

  /// Brings scales from tiles into rows, [O, I / 16].
  ///
  /// A tile of 128 rows and 4 columns is stored as [32, 4, 4]: row % 32, row / 32, column.
  private static func inRows(_ scales: Tensor, shape: [Int]) throws -> Tensor {
    let (rows, columns) = (scales.size(0) / tile.rows, scales.size(1) / tile.columns)
    return try scales.reshape([rows, columns, 32, 4, 4]).permute([0, 3, 2, 1, 4])
      .reshape(scales.shape).narrow(0, 0, shape[0]).narrow(1, 0, shape[1] / block).contiguous()
  }

  /// The inverse of `inRows`, with padding of 0.
  private static func inTiles(_ scales: Tensor) throws -> Tensor {
    let stored = storedScaleShape([scales.size(0), scales.size(1) * block])
    let padded = try scales.pad([
      0, stored[1] - scales.size(1), 0, stored[0] - scales.size(0),
    ])
    return try padded.reshape([stored[0] / tile.rows, 4, 32, stored[1] / tile.columns, 4])
      .permute([0, 3, 2, 1, 4]).reshape(stored)
  }

  var tensors: [WeightTensor] {
    [
      WeightTensor(key: key, dtype: .uint8, shape: [shape[0], shape[1] / 2]),
      WeightTensor(key: scaleKey, dtype: .float8E4M3, shape: Self.storedScaleShape(shape)),
      WeightTensor(key: tensorScaleKey, dtype: .float32, shape: tensorScaleShape),
    ]
  }

  /// The scale of the tensor maps its largest element to the largest product of an element and a
  /// block's scale.
  func encode(_ values: Tensor) throws -> [String: Tensor] {
    let blocks = try values.reshape([shape[0], shape[1] / Self.block, Self.block])
    let tensorScale = try (values.abs().amax() / (Self.ends.element * Self.ends.scale))
      .clamped(min: Scalar(DType.float32.smallestNormal))
    let largest = try blocks.abs().amax([2])
    let scales = try (largest / Self.ends.element / tensorScale)
      .clamped(max: Scalar(Self.ends.scale)).to(.float8E4M3)
    let total = try (scales.to(.float32) * tensorScale).unsqueeze(2)
    // A block whose scale is rounded to 0 has elements of 0.
    let quotients = try (blocks / total.maskedFill(total.equal(to: 0), Scalar(Double.infinity)))
      .clamped(min: Scalar(-Self.ends.element), max: Scalar(Self.ends.element))
    let codes = try CodeBook.packed(CodeBook.e2m1.codes(of: quotients))
    return [
      key: try codes.reshape([shape[0], shape[1] / 2]),
      scaleKey: try Self.inTiles(scales.to(.float32)).to(.float8E4M3),
      tensorScaleKey: try tensorScale.reshape(tensorScaleShape),
    ]
  }
}
