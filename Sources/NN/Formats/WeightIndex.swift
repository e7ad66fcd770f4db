import TensorFiles

/// The weights of a file by format, and the tensors beside them.
package final class WeightIndex: Sendable {
  private let source: any TensorSource
  /// The keys of tensors that describe the storage of a weight, by the path of its layer with the
  /// trailing dot. Few files have any, and a weight finds its own without a search.
  private let companions: [String: [String]]

  package init(_ source: any TensorSource) {
    self.source = source
    var companions: [String: [String]] = [:]
    for key in source.entries.keys {
      if let layer = Self.layer(describedBy: key) { companions[layer, default: []].append(key) }
    }
    self.companions = companions
  }

  /// The format of a weight; nil if the file doesn't have it.
  ///
  /// - Throws: `WeightError` for a weight in an unsupported format, and for a tensor beside it that
  ///   its format doesn't support; `Issue` for an unsupported description.
  package func format(of key: String) throws -> (any WeightFormat)? {
    let header = try WeightHeader(key, in: source)
    guard let format = try recognize(header) else {
      guard let entry = header.entry else { return nil }
      throw header.unsupportedFormatError
        ?? header.error(
          "has dtype \(entry.dtype), in which no layer can compute (expected a floating-point "
            + "dtype, "
            + "or int8 with a scale). \(UnsupportedFormat.advice)")
    }
    let known = type(of: format).companions + [QuantizationDescription.tensorName]
    for other in companionKeys(of: key) where !known.contains(where: { header.isNamed(other, $0) })
    {
      throw header.unsupportedFormatError
        ?? header.error(
          "belongs to the weight beside it, but its meaning is not known (\(header.name) is in the "
            + "format \(format.title)), so the weight can't be read with certainty. "
            + UnsupportedFormat.advice, key: other)
    }
    return format
  }

  /// Whether a key names a weight with tensors beside it that describe its storage.
  package func isDescribed(_ key: String) -> Bool {
    WeightHeader.layer(of: key).map { companions[$0] != nil } ?? false
  }

  private func recognize(_ header: WeightHeader) throws -> (any WeightFormat)? {
    for type in WeightFormats.all {
      // A description takes precedence. Its format has to be the weight's.
      if let name = header.description?.name, !type.names.contains(name) { continue }
      if let format = try type.init(header) { return format }
    }
    return nil
  }

  /// The keys of the tensors that describe the storage of a weight.
  func companionKeys(of key: String) -> [String] {
    guard let layer = WeightHeader.layer(of: key) else { return [] }
    return companions[layer]?.sorted() ?? []
  }

  /// The path of the layer whose weight a tensor belongs to, by its name: every name that begins
  /// with the weight's own name, `weight_scale` or `weight.absmax`, and all scales.
  private static func layer(describedBy key: String) -> String? {
    let names = key.split(separator: ".", omittingEmptySubsequences: false)
    let layer: ArraySlice<Substring>
    if let last = names.last, isCompanion(last) {
      layer = names.dropLast()
    } else if let index = names.dropLast().lastIndex(where: { $0 == "weight" }) {
      layer = names[..<index]
    } else {
      return nil
    }
    return layer.isEmpty ? "" : layer.joined(separator: ".") + "."
  }

  private static func isCompanion(_ name: Substring) -> Bool {
    name.hasPrefix("weight") && name != "weight" || name.hasSuffix("_scale")
      || name.hasPrefix("scale_") || WeightFormats.companions.contains(String(name))
  }
}

extension WeightHeader {
  /// Whether a key names a tensor of this name beside the weight.
  fileprivate func isNamed(_ other: String, _ name: String) -> Bool {
    layer.map { other == $0 + name } ?? false
  }

  /// The error for a weight that can't be read because its layer is in a known but unsupported
  /// format.
  var unsupportedFormatError: (any Error)? {
    source.unsupportedFormatError(layer: key.lastIndex(of: ".").map { String(key[...$0]) } ?? "")
  }
}
