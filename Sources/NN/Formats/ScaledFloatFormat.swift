import TensorFiles
import Torch

/// float8 with or without a scale. Wider floating-point dtypes with a scale are read as well.
package struct ScaledFloatFormat: WeightFormat {
  package static let names = elementTypes.map(\.name)
  package static let companions = StoredScale.companions

  private static let elementTypes: [(name: String, dtype: DType)] = [
    ("float8_e4m3fn", .float8E4M3), ("float8_e5m2", .float8E5M2),
  ]

  private let key: String
  private let elementType: DType
  private let scale: StoredScale?
  /// The description that is written beside the weight; nil if the file's own is kept, or none is
  /// needed.
  private let newDescription: (key: String, bytes: [UInt8])?
  package let shape: [Int]
  package let title: String

  package init?(_ header: WeightHeader) throws {
    guard let entry = header.entry else { return nil }
    let scale = StoredScale(header)
    if let description = header.description {
      guard let type = Self.elementTypes.first(where: { $0.name == description.name }) else {
        return nil
      }
      self.scale = try StoredScale.apply(description, to: header, scale, elementType: type.dtype)
        .scale
      title = description.name
    } else {
      guard entry.dtype.isEightBitFloat || entry.dtype.isFloatingPoint && scale != nil else {
        return nil
      }
      self.scale = scale
      title = scale == nil ? "\(entry.dtype)" : "scaled \(entry.dtype)"
    }
    (key, elementType, shape) = (header.key, entry.dtype, entry.shape)
    newDescription = nil
  }

  /// float8_e4m3fn with one scale for the tensor, the format that ComfyUI reads.
  ///
  /// The description tells programs that could multiply in eight bits not to, because there is no
  /// scale of the layer's inputs.
  ///
  /// - Parameters:
  ///   - key: The key of the weight, which ends in `weight`.
  ///   - shape: [O, I]
  package init(newWeight key: String, shape: [Int]) {
    self.key = key
    self.shape = shape
    elementType = .float8E4M3
    scale = StoredScale(of: key, rows: shape.first ?? 1)
    title = "float8_e4m3fn"
    newDescription = (
      key.dropLast("weight".count) + QuantizationDescription.tensorName,
      Array("{\"format\": \"\(title)\", \"full_precision_matrix_mult\": true}".utf8)
    )
  }

  /// Whether the values are elements of float8_e4m3fn times a scale.
  package var isScaledE4M3: Bool { elementType == .float8E4M3 && scale != nil }

  package var dtype: DType { elementType.isEightBitFloat ? .bfloat16 : elementType }

  package func load(dtype: DType?, from store: WeightStore) throws -> any StoredWeight {
    let scale = try scale?.load(from: store)
    return ScaledWeight(
      elements: WeightSlot(key: key, tensor: try store.read(key, dtype: nil)), scale: scale,
      dtype: dtype ?? self.dtype)
  }

  package func valuesToFuse(dtype: DType?, from store: WeightStore) throws -> Tensor {
    // The sum of unscaled elements and adapters is rounded to the elements' dtype again.
    try scale == nil ? store.read(key, dtype: nil) : load(dtype: dtype, from: store).dequantized()
  }

  package var tensors: [WeightTensor] {
    [WeightTensor(key: key, dtype: elementType, shape: shape)]
      + (scale.map { [WeightTensor(key: $0.key, dtype: $0.dtype, shape: $0.shape)] } ?? [])
      + (newDescription.map {
        [WeightTensor(key: $0.key, dtype: .uint8, shape: [$0.bytes.count])]
      } ?? [])
  }

  package func encode(_ values: Tensor) throws -> [String: Tensor] {
    guard let scale else { return [key: try values.to(elementType)] }
    guard elementType.isEightBitFloat else {
      return [
        key: try values.to(elementType), scale.key: try .ones(scale.shape, dtype: scale.dtype),
      ]
    }
    let (elements, factor) = try scale.quantize(values, to: elementType)
    var tensors = [key: elements, scale.key: factor]
    if let (key, bytes) = newDescription {
      tensors[key] = try Tensor(bytes, shape: [bytes.count])
    }
    return tensors
  }
}

extension Weights {
  /// A tensor whose dtype shows, in older files of ComfyUI, which float8 the weights beside it use.
  package static let scaledFP8Marker = "scaled_fp8"

  /// Checks that the weights here use the float8 that `scaled_fp8` states, if the file has it.
  ///
  /// - Throws: `WeightError` for a marker of another dtype, and for a weight in the other float8.
  public func requireScaledFP8MarkerFits() throws {
    let name = Self.scaledFP8Marker
    guard let marker = store.source.entries[key(name)] else { return }
    // ComfyUI's first files have a float32 marker for E4M3.
    let marked: DType = marker.dtype == .float32 ? .float8E4M3 : marker.dtype
    guard marked.isEightBitFloat else {
      throw WeightError(
        file: store.source.file(of: key(name)), key: key(name),
        problem: "marks weights as \(marker.dtype) (expected F8_E4M3 or F8_E5M2). "
          + UnsupportedFormat.advice)
    }
    let prefix = path.isEmpty ? "" : path + "."
    let other = store.source.entries.filter { key, entry in
      key.hasPrefix(prefix) && key.hasSuffix(".weight") && entry.dtype.isEightBitFloat
        && entry.dtype != marked
    }.keys.min()
    guard let other else { return }
    throw WeightError(
      file: store.source.file(of: other), key: other,
      problem:
        "is not \(marked), which \(name) says that the file's weights are in; two files were "
        + "mixed")
  }
}
