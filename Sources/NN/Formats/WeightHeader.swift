import TensorFiles

/// A weight of a file and the tensors beside it, by their headers.
package struct WeightHeader: Sendable {
  package let source: any TensorSource
  package let key: String
  /// Nil if the file has no tensor of this name; a format may store a weight under other names.
  package let entry: TensorEntry?
  /// The path of the layer with its trailing dot, for a tensor named `weight`; nil for others.
  package let layer: String?
  /// The description beside the weight.
  let description: QuantizationDescription?

  /// - Throws: The same errors as `TensorSource.quantizationDescription(_:)`.
  package init(_ key: String, in source: any TensorSource) throws {
    self.key = key
    self.source = source
    entry = source.entries[key]
    layer = Self.layer(of: key)
    description = try layer.flatMap { try source.quantizationDescription($0) }
  }

  static func layer(of key: String) -> String? {
    key == "weight" || key.hasSuffix(".weight") ? String(key.dropLast("weight".count)) : nil
  }

  /// The key of a tensor beside the weight, if the file has it.
  ///
  /// - Parameter name: The name of a tensor beside one that is named `weight`. `weight_scale`
  ///   stands for `table_scale` beside a tensor named `table`.
  func companion(_ name: String) -> String? {
    let candidate =
      name.hasPrefix("weight") ? key + name.dropFirst("weight".count) : layer.map { $0 + name }
    return candidate.flatMap { source.entries[$0] == nil ? nil : $0 }
  }

  /// The last part of the key.
  var name: Substring { key.lastIndex(of: ".").map { key[key.index(after: $0)...] } ?? key[...] }

  /// An error about the weight, or about a tensor beside it.
  func error(_ problem: String, key other: String? = nil) -> WeightError {
    let key = other ?? key
    return WeightError(file: source.file(of: key), key: key, problem: problem)
  }
}
