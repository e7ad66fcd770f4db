import TensorFiles
import Torch

/// int8 with one scale for the tensor or for each row; in some files the inputs were rotated before
/// quantization (ConvRot).
package struct Int8Format: WeightFormat {
  static let name = "int8_tensorwise"
  package static let names = [name]
  package static let companions = StoredScale.companions

  private let key: String
  private let scale: StoredScale
  private let rotationGroup: Int?
  /// The description that is written beside the weight; nil if none is needed.
  private let newDescription: (key: String, bytes: [UInt8])?
  package let shape: [Int]
  package let title: String
  package let dtype = DType.bfloat16

  package init?(_ header: WeightHeader) throws {
    guard let entry = header.entry else { return nil }
    newDescription = nil
    let scale = StoredScale(header)
    guard let description = header.description else {
      guard entry.dtype == .int8 else { return nil }
      guard let scale else { throw Self.missingScale(header) }
      (self.scale, rotationGroup) = (scale, nil)
      title = "scaled \(entry.dtype)"
      (key, shape) = (header.key, entry.shape)
      return
    }
    if entry.dtype == .int8, scale == nil { throw Self.missingScale(header) }
    (self.scale, rotationGroup) = try StoredScale.apply(
      description, to: header, scale, elementType: .int8)
    title = rotationGroup.map { "\(Self.name) (ConvRot \($0))" } ?? Self.name
    (key, shape) = (header.key, entry.shape)
  }

  /// int8 with one scale for each row, the format that ComfyUI reads.
  ///
  /// - Parameters:
  ///   - key: The key of the weight, which ends in `weight`.
  ///   - shape: [O, I]
  package init(newWeight key: String, shape: [Int]) {
    self.key = key
    self.shape = shape
    scale = StoredScale(of: key, rows: shape.first ?? 1, isPerRow: true)
    rotationGroup = nil
    title = Self.name
    newDescription = (
      key.dropLast("weight".count) + QuantizationDescription.tensorName,
      Array("{\"format\": \"\(Self.name)\"}".utf8)
    )
  }

  private static func missingScale(_ header: WeightHeader) -> any Error {
    header.unsupportedFormatError
      ?? header.error(
        "is int8 without a scale (expected \(header.name)_scale beside it). "
          + UnsupportedFormat.advice)
  }

  package func load(dtype: DType?, from store: WeightStore) throws -> any StoredWeight {
    let scale = try scale.load(from: store)
    return ScaledWeight(
      elements: WeightSlot(key: key, tensor: try store.read(key, dtype: nil)), scale: scale,
      dtype: dtype ?? self.dtype,
      rotation: try rotationGroup.map { try store.rotation(group: $0) })
  }

  package var tensors: [WeightTensor] {
    [
      WeightTensor(key: key, dtype: .int8, shape: shape),
      WeightTensor(key: scale.key, dtype: scale.dtype, shape: scale.shape),
    ]
      + (newDescription.map {
        [WeightTensor(key: $0.key, dtype: .uint8, shape: [$0.bytes.count])]
      } ?? [])
  }

  package func encode(_ values: Tensor) throws -> [String: Tensor] {
    let values = try rotationGroup.map { try values.rotatedForQuantization(group: $0) } ?? values
    let (elements, scale) = try scale.quantize(values, to: .int8)
    var tensors = [key: elements, self.scale.key: scale]
    if let (key, bytes) = newDescription {
      tensors[key] = try Tensor(bytes, shape: [bytes.count])
    }
    return tensors
  }
}
