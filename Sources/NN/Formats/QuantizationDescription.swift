import TensorFiles
import Torch

/// What a checkpoint says of a quantized matrix: ComfyUI's `comfy_quant`, a tensor of bytes beside
/// `weight` that hold a JSON object, or the same object in the file's metadata.
///
/// Every member is either applied or refused by name: one that is passed over could stand for a
/// transformation without which the weights mean nothing.
public struct QuantizationDescription: Sendable, Equatable {
  /// The formats that are applied. Values are elements times scale, one scale for the tensor or one
  /// for each row.
  public enum Format: String, Sendable, CaseIterable {
    case float8E4M3 = "float8_e4m3fn"
    case float8E5M2 = "float8_e5m2"
    case int8 = "int8_tensorwise"

    /// The dtype of the elements.
    public var dtype: DType {
      switch self {
      case .float8E4M3: .float8E4M3
      case .float8E5M2: .float8E5M2
      case .int8: .int8
      }
    }
  }

  public let format: Format
  /// The size of the groups of inputs that were rotated before quantization (ConvRot); nil for
  /// none.
  public let rotationGroup: Int?
  /// Whether there is one scale for each row; nil where the description leaves it to the scale's
  /// shape.
  let hasScalePerRow: Bool?
  /// The shape of the matrix, where the description repeats it.
  let shape: [Int]?

  public init(format: Format, rotationGroup: Int? = nil) {
    self.format = format
    self.rotationGroup = rotationGroup
    (hasScalePerRow, shape) = (nil, nil)
  }

  /// The key of the metadata that holds the descriptions of all layers: `{"layers":
  /// {"path.of.layer": {...}}}`.
  public static let metadataKey = "_quantization_metadata"

  /// The name of the tensor that holds a description.
  public static let tensorName = "comfy_quant"

  /// The sizes of groups that can be rotated: powers of 4. ComfyUI's files have 256, or less where
  /// 256 does not divide the inputs.
  static let rotationGroups = [4, 16, 64, 256, 1024]

  /// The group size of files that do not state it.
  private static let defaultRotationGroup = 256

  /// - Parameter object: the description; errors name the file and the key that it has.
  /// - Throws: `ConfigurationError` for a format or a member that is not supported.
  init(_ object: Configuration) throws {
    let name = try object.string("format")
    guard let format = Format(rawValue: name) else {
      let supported = Format.allCases.map(\.rawValue).joined(separator: ", ")
      throw ConfigurationError(
        file: object.file, key: object.path,
        problem:
          "has the format \"\(name.displayed(limit: 40))\"\(PackedFormat.title(ofComfyFormat: name)), which is not supported (expected "
          + "\(supported)). \(PackedFormat.advice)")
    }
    // ComfyUI reads these two from "params" where they are not beside the format.
    let rotation = ["convrot", "convrot_groupsize"]
    let params = try object.object("params", isOptional: true)
    try Self.require(Set(rotation), in: params)
    func holder(of key: String) -> Configuration { object.has(key) ? object : params }
    try Self.require(
      [
        "format", "params", "convrot", "convrot_groupsize", "per_row", "orig_dtype", "orig_shape",
        // Products are always made in the dtype of the computation, never in 8 bits.
        "full_precision_matrix_mult",
      ], in: object)
    _ = try object.bool("full_precision_matrix_mult", default: false)
    _ = try object.string("orig_dtype", default: "")
    hasScalePerRow = object.has("per_row") ? try object.bool("per_row") : nil
    shape = object.has("orig_shape") ? try object.ints("orig_shape", count: 0...8) : nil
    self.format = format
    let group = try holder(of: rotation[1]).int(
      rotation[1], default: Self.defaultRotationGroup, in: 1...Configuration.maxSize)
    guard try holder(of: rotation[0]).bool(rotation[0], default: false) else {
      rotationGroup = nil
      return
    }
    guard format == .int8 else {
      throw object.error("convrot", "is true, which goes with int8_tensorwise only (got \(name))")
    }
    guard Self.rotationGroups.contains(group) else {
      throw object.error(
        "convrot_groupsize", "must be a power of 4 between 4 and 1024 (got \(group))")
    }
    rotationGroup = group
  }

  private static func require(_ known: Set<String>, in object: Configuration) throws {
    guard let unknown = object.keys.first(where: { !known.contains($0) }) else { return }
    throw object.error(
      unknown,
      "is not known, so the weight can't be dequantized with certainty. \(PackedFormat.advice)")
  }

  /// For lists of what a file holds: `int8_tensorwise (ConvRot 256)`.
  public var title: String {
    rotationGroup.map { "\(format.rawValue) (ConvRot \($0))" } ?? format.rawValue
  }

  /// The JSON object, as ComfyUI writes it.
  ///
  /// - Parameter isMultipliedInFull: whether programs that can multiply in 8 bits should not, for
  ///   want of a scale of the layer's inputs.
  public func json(isMultipliedInFull: Bool = false) -> String {
    var members = ["\"format\": \"\(format.rawValue)\""]
    if isMultipliedInFull { members.append("\"full_precision_matrix_mult\": true") }
    if let rotationGroup {
      members += ["\"convrot\": true", "\"convrot_groupsize\": \(rotationGroup)"]
    }
    return "{\(members.joined(separator: ", "))}"
  }
}

extension TensorSource {
  /// The description of the matrix `weight` at a path, read from the tensor of bytes beside it; nil
  /// where there is none.
  ///
  /// - Parameter prefix: the path with its closing dot; empty at the root.
  /// - Throws: `WeightError` for a tensor that does not hold bytes, or bytes that are not a JSON
  ///   object; `ConfigurationError` for a description that is not supported.
  public func quantizationDescription(_ prefix: String) throws -> QuantizationDescription? {
    let key = prefix + QuantizationDescription.tensorName
    guard let entry = entries[key] else { return nil }
    func fail(_ problem: String) -> WeightError {
      WeightError(file: file(of: key), key: key, problem: problem)
    }
    guard [.uint8, .int8].contains(entry.dtype), entry.byteCount <= 1 << 16 else {
      throw fail(
        "must be bytes that hold the quantization format as a JSON object (got \(entry.dtype) of shape "
          + "\(entry.shape)). \(PackedFormat.advice)")
    }
    do {
      let tree = try tensor(key).withUnsafeBytes { try JSONTree(parsing: $0, path: file(of: key)) }
      guard case .object(let members) = JSONValue(tree) else {
        throw fail(
          "must hold a JSON object that names the quantization format. \(PackedFormat.advice)")
      }
      return try QuantizationDescription(
        Configuration(values: members, file: file(of: key), path: key))
    } catch let error as TensorFileError {
      throw fail(
        "must hold the quantization format as a JSON object, but \(error.message). \(PackedFormat.advice)"
      )
    }
  }
}
