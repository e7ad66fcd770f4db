import Support
import TensorFiles
import Torch

/// The description of a quantized weight in a checkpoint: ComfyUI's `comfy_quant`, a tensor of
/// bytes beside `weight` that hold a JSON object, or the same object in the file's metadata.
///
/// Every member is either applied or rejected by name: an ignored one could stand for a
/// transformation without which the weight is meaningless.
package struct QuantizationDescription: Sendable {
  /// The key of the metadata that holds the descriptions of all layers: `{"layers":
  /// {"path.of.layer": {...}}}`.
  package static let metadataKey = "_quantization_metadata"

  /// The name of the tensor that holds a description.
  package static let tensorName = "comfy_quant"

  /// The name of the format, one of `WeightFormats.names`.
  let name: String
  /// The shape of the weight, if the description repeats it.
  let shape: [Int]?
  private let object: Configuration

  /// - Parameter object: The description; errors name its file and its key.
  /// - Throws: `Issue` for an unsupported format.
  init(_ object: Configuration) throws {
    name = try object.string("format")
    guard WeightFormats.names.contains(name) else {
      throw Issue(
        [.file(object.file), .name(object.path.displayed())],
        "has the format \"\(name.displayed(limit: 40))\""
          + "\(UnsupportedFormat.title(ofComfyFormat: name)), which is not supported (expected "
          + "\(WeightFormats.names.sorted().joined(separator: ", "))). \(UnsupportedFormat.advice)")
    }
    _ = try object.string("orig_dtype", default: "")
    // Products are always computed in the dtype of the computation, never in eight bits.
    _ = try object.bool("full_precision_matrix_mult", default: false)
    shape = object.has("orig_shape") ? try object.ints("orig_shape", count: 0...8) : nil
    self.object = object
  }

  /// The members that only some formats have.
  ///
  /// - Parameters:
  ///   - known: The names that the format supports.
  ///   - inParams: Those of them that may be in the object `params` instead.
  /// - Throws: `Issue` for any other member.
  @discardableResult
  func options(_ known: [String], inParams: [String] = []) throws -> Options {
    let params = try object.object("params", isOptional: true)
    try Self.require(Set(inParams), in: params)
    let common = [
      "format", "params", "orig_dtype", "orig_shape", "full_precision_matrix_mult",
    ]
    try Self.require(Set(known + common), in: object)
    return Options(object: object, params: params)
  }

  struct Options {
    fileprivate let object: Configuration
    fileprivate let params: Configuration

    func has(_ key: String) -> Bool { object.has(key) }
    func bool(_ key: String) throws -> Bool { try object.bool(key) }
    func error(_ key: String, _ problem: String) -> Issue {
      object.error(key, problem)
    }
    /// The object that has a member: the description or its `params`.
    func holder(of key: String) -> Configuration { object.has(key) ? object : params }
  }

  private static func require(_ known: Set<String>, in object: Configuration) throws {
    guard let unknown = object.keys.first(where: { !known.contains($0) }) else { return }
    throw object.error(
      unknown,
      "is not known, so the weight can't be dequantized with certainty. \(UnsupportedFormat.advice)"
    )
  }
}

extension TensorSource {
  /// The description of the weight of a layer, read from the tensor of bytes beside it; nil if the
  /// layer has none.
  ///
  /// - Parameter layer: The path with its trailing dot; empty at the root.
  /// - Throws: `WeightError` for a tensor that doesn't hold bytes, or bytes that aren't a JSON
  ///   object; `Issue` for an unsupported description.
  package func quantizationDescription(_ layer: String) throws -> QuantizationDescription? {
    let key = layer + QuantizationDescription.tensorName
    guard let entry = entries[key] else { return nil }
    func fail(_ problem: String) -> WeightError {
      WeightError(file: file(of: key), key: key, problem: problem)
    }
    guard [.uint8, .int8].contains(entry.dtype), entry.byteCount <= 1 << 16 else {
      throw fail(
        "must be bytes that hold the quantization format as a JSON object (got \(entry.dtype) of "
          + "shape \(entry.shape)). \(UnsupportedFormat.advice)")
    }
    do {
      let description = try tensor(key).withUnsafeBytes { try JSON(parsing: $0) }
      guard case .object(let members) = description else {
        throw fail(
          "must hold a JSON object that names the quantization format. \(UnsupportedFormat.advice)")
      }
      return try QuantizationDescription(
        Configuration(values: members, file: file(of: key), path: key))
    } catch let error as JSONError {
      throw fail(
        "must hold the quantization format as a JSON object, but it is \(error). "
          + UnsupportedFormat.advice)
    }
  }
}
