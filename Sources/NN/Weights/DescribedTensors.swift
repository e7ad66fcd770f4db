import Foundation
import Support
import TensorFiles
import Torch

/// A file whose metadata describes how its layers are quantized. Each description appears as a
/// tensor `comfy_quant` beside its layer, the other place where ComfyUI writes it.
package final class DescribedTensors: TensorSource {
  /// The file without the descriptions.
  package let base: any TensorSource
  package let entries: [String: TensorEntry]
  /// The added tensors' JSON by key.
  private let descriptions: [String: [UInt8]]

  package var name: String { base.name }
  package var metadata: [String: String] { base.metadata }
  package func metadata(of key: String) -> [String: String] { base.metadata(of: key) }

  /// The prefixes that a layer's name may have in only one of the two places.
  private static let prefixes = ["model.diffusion_model.", "diffusion_model.", "model."]

  /// Returns the source with the descriptions in its metadata, and with optimum-quanto's weights
  /// under their usual names; the source itself if it has neither.
  ///
  /// - Throws: `Issue` for metadata that isn't JSON of the expected form, that describes a layer
  ///   that the file doesn't have, or that contradicts the description beside the layer.
  package static func describing(_ source: any TensorSource) throws -> any TensorSource {
    let source = QuantoNames.unified(source)
    guard let json = source.metadata[QuantizationDescription.metadataKey] else { return source }
    return try DescribedTensors(source, json: json)
  }

  private init(_ source: any TensorSource, json: String) throws {
    let config = try Configuration(
      json: json, file: source.name, path: "__metadata__.\(QuantizationDescription.metadataKey)")
    let layers = try config.object("layers")
    var entries = source.entries
    var descriptions: [String: [UInt8]] = [:]
    for layer in layers.keys {
      let members = try layers.object(layer)
      guard let path = Self.path(of: layer, in: source.entries) else {
        throw layers.error(
          layer,
          "describes a layer that the file does not have (expected \(layer).weight); the file is "
            + "damaged"
        )
      }
      let key = "\(path).\(QuantizationDescription.tensorName)"
      if source.entries[key] != nil {
        let own = try source.tensor(key).withUnsafeBytes { bytes in
          String(decoding: bytes, as: UTF8.self)
        }
        guard try Configuration(json: own, file: source.name, path: key).json == members.json
        else {
          throw layers.error(
            layer, "contradicts \(key), the description beside the layer; the file is damaged")
        }
        continue
      }
      let bytes = Array(members.json.utf8)
      descriptions[key] = bytes
      entries[key] = TensorEntry(dtype: .uint8, shape: [bytes.count], range: 0..<bytes.count)
    }
    base = source
    self.entries = entries
    self.descriptions = descriptions
  }

  private static func path(of layer: String, in entries: [String: TensorEntry]) -> String? {
    let shorter = prefixes.filter(layer.hasPrefix).map { String(layer.dropFirst($0.count)) }
    return ([layer] + prefixes.map { $0 + layer } + shorter).first {
      entries["\($0).weight"] != nil
    }
  }

  package func tensor(_ key: String) throws -> Tensor {
    guard let bytes = descriptions[key] else { return try base.tensor(key) }
    return try Tensor(bytes, shape: [bytes.count])
  }

  package func prepareToRead(_ key: String) {
    if descriptions[key] == nil { base.prepareToRead(key) }
  }

  package func prepareToReadOnly(_ key: String) {
    if descriptions[key] == nil { base.prepareToReadOnly(key) }
  }
  package func release(_ key: String) { if descriptions[key] == nil { base.release(key) } }
  package func file(of key: String) -> String { base.file(of: key) }
}
