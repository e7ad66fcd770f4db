import TensorFiles
import Torch

/// The scale beside a weight in a file: one for the tensor, or one for each row.
struct StoredScale: Sendable {
  /// `weight_scale` or, in older files of ComfyUI, `scale_weight`. Scales of a layer's inputs,
  /// which other programs need to multiply in eight bits, have no effect here: products are
  /// computed in the dtype of the computation.
  static let companions = [key, olderKey, "input_scale", "scale_input"]
  private static let key = "weight_scale"
  private static let olderKey = "scale_weight"

  let key: String
  let dtype: DType
  /// [], [1], [1, 1], [rows] or [rows, 1].
  let shape: [Int]
  let rows: Int

  /// Nil for a weight without a scale.
  init?(_ header: WeightHeader) {
    guard let key = header.companion(Self.key) ?? header.companion(Self.olderKey),
      let entry = header.source.entries[key]
    else { return nil }
    self.key = key
    (dtype, shape) = (entry.dtype, entry.shape)
    rows = header.entry?.shape.first ?? 1
  }

  /// A new scale in float32, for a complete weight or for each of its rows.
  init(of weight: String, rows: Int, isPerRow: Bool = false) {
    key = "\(weight)_scale"
    (dtype, shape) = (.float32, isPerRow ? [rows, 1] : [])
    self.rows = rows
  }

  private var count: Int { shape.reduce(1, *) }
  private var isPerRow: Bool { rows > 1 && count == rows }

  /// Reads the scale: [1] or [rows, 1], float32.
  ///
  /// - Throws: `WeightError` unless the scale is one positive number, or one for each row.
  func load(from store: WeightStore) throws -> WeightSlot {
    func fail(_ problem: String) -> any Error {
      let layer = key.lastIndex(of: ".").map { String(key[...$0]) } ?? ""
      return store.source.unsupportedFormatError(layer: layer)
        ?? WeightError(file: store.source.file(of: key), key: key, problem: problem)
    }
    guard dtype.isFloatingPoint, !dtype.isEightBitFloat else {
      throw fail(
        "has dtype \(dtype) (expected float32, bfloat16 or float16). \(UnsupportedFormat.advice)")
    }
    guard shape.allSatisfy({ $0 == 1 }) || shape == [rows] || shape == [rows, 1] else {
      throw fail(
        "has shape \(shape) (expected one scale for the tensor, or one for each of its \(rows) "
          + "rows). "
          + UnsupportedFormat.advice)
    }
    let scale = try store.read(key, dtype: .float32)
    guard try scale.isAllFinite() else {
      throw fail("holds NaN or infinite values; the file is damaged")
    }
    let smallest = scale.count > 0 ? try scale.min().item() : 1
    guard smallest > 0 else {
      throw fail("must be positive (got \(Float(smallest))); the file is damaged")
    }
    return WeightSlot(key: key, tensor: try scale.reshape(isPerRow ? [rows, 1] : [1]))
  }

  /// Quantizes values to elements of a dtype, mapping the largest to the end of its range.
  ///
  /// - Parameter values: [rows, columns], float32.
  /// - Returns: The elements, and the scale in its own shape and dtype.
  func quantize(_ values: Tensor, to elementType: DType) throws -> (
    elements: Tensor, scale: Tensor
  ) {
    let end = elementType == .int8 ? 127 : elementType.largestFinite
    let largest = try isPerRow ? values.abs().amax([1], keepdim: true) : values.abs().amax()
    // The smallest keeps rows of zeros from dividing by 0. The scale is rounded before it is used.
    let smallest = max(dtype.smallestNormal, 1e-30)
    let scale = try (largest / end).clamped(min: Scalar(smallest)).to(dtype)
    let quotients = try values / scale.to(.float32)
    let rounded = try elementType == .int8 ? quotients.round() : quotients
    let elements = try rounded.clamped(min: Scalar(-end), max: Scalar(end)).to(elementType)
    return (elements, try scale.reshape(shape))
  }

  /// The parts of a description that all scaled formats share, checked against the weight.
  ///
  /// - Parameters:
  ///   - scale: The scale beside the weight.
  ///   - elementType: The dtype that the description names.
  /// - Returns: The scale, and the size of the groups of inputs that were rotated (ConvRot); nil
  ///   for no rotation.
  /// - Throws: `WeightError` for a description that doesn't fit the weight; `Issue` for an
  ///   unsupported member.
  static func apply(
    _ description: QuantizationDescription, to header: WeightHeader, _ scale: StoredScale?,
    elementType: DType
  ) throws -> (scale: StoredScale, rotationGroup: Int?) {
    let rotation = ["convrot", "convrot_groupsize"]
    // ComfyUI reads these two from "params" if they are not beside the format.
    let options = try description.options(["per_row"] + rotation, inParams: rotation)
    let tensorName = QuantizationDescription.tensorName
    let entry = header.entry
    let shape = entry?.shape ?? []
    guard entry?.dtype == elementType else {
      throw header.error(
        "is \(entry.map { "\($0.dtype)" } ?? "missing"), but \(tensorName) says "
          + "\(description.name) "
          + "(expected \(elementType)). \(UnsupportedFormat.advice)")
    }
    guard let scale else {
      throw header.error(
        "is \(description.name) by \(tensorName), but has no scale (expected "
          + "\(header.name)_scale). "
          + UnsupportedFormat.advice)
    }
    if let said = description.shape, said != shape {
      throw header.error("has shape \(shape), but \(tensorName) says \(said)")
    }
    let isPerRow = options.has("per_row") ? try options.bool("per_row") : nil
    if let isPerRow, scale.rows > 1, isPerRow != scale.isPerRow {
      throw header.error(
        "holds \(scale.count) \(scale.count == 1 ? "scale" : "scales"), but \(tensorName) says "
          + (isPerRow ? "one for each row" : "one for the tensor"), key: scale.key)
    }
    let group = try options.holder(of: rotation[1]).int(
      rotation[1], default: defaultRotationGroup, in: 1...Configuration.maxSize)
    guard try options.holder(of: rotation[0]).bool(rotation[0], default: false) else {
      return (scale, nil)
    }
    guard elementType == .int8 else {
      throw options.error(
        rotation[0],
        "is true, which is supported only for \(Int8Format.name) (got \(description.name))")
    }
    guard rotationGroups.contains(group) else {
      throw options.error(rotation[1], "must be a power of 4 between 4 and 1024 (got \(group))")
    }
    guard shape.count == 2, shape[1] > 0, shape[1].isMultiple(of: group) else {
      throw header.error(
        "has shape \(shape), whose inputs can't be rotated in groups of \(group) as \(tensorName) "
          + "says (convrot_groupsize must divide the inputs)")
    }
    return (scale, group)
  }

  /// The sizes of groups that can be rotated: powers of 4. ComfyUI's files have 256, or less if 256
  /// doesn't divide the inputs.
  private static let rotationGroups = [4, 16, 64, 256, 1024]

  /// The group size of files that do not state it.
  private static let defaultRotationGroup = 256
}
