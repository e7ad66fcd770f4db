import Foundation
import NN
import TensorFiles
import Torch

/// Transformers in separate files, as full fine-tuning saves them.
///
/// The file holds all of the transformer's keys, without a prefix, trained or not: the official
/// trainer loads such a file with its `load_checkpoint`. The `config` in the metadata lets the file
/// be used as the transformer beside other components. It doesn't contain text connectors.
extension Checkpoint {
  private static let scope = Prefix.transformer + "."

  /// The shapes of the transformer's tensors, by their keys in the unified layout. Scales of
  /// quantized tensors are not listed.
  private var transformerShapes: [String: [Int]] {
    var shapes: [String: [Int]] = [:]
    for (key, entry) in source.entries where key.hasPrefix(Self.scope) {
      let name = String(key.dropFirst(Self.scope.count))
      guard !KnowinglyUnused.transformer(name),
        !WeightFormats.isCompanion(name)
      else { continue }
      shapes[key] = entry.shape
    }
    return shapes
  }

  /// The keys and shapes of the file that `writeTransformer` writes, in alphabetical order.
  public var transformerFileShapes: [(key: String, shape: [Int])] {
    transformerShapes.sorted { $0.key < $1.key }
      .map { (key: String($0.key.dropFirst(Self.scope.count)), shape: $0.value) }
  }

  /// Writes the transformer with its trained tensors.
  ///
  /// - Parameters:
  ///   - trained: Tensors by their keys in the unified layout, such as the parameters of a
  ///     transformer that was built from this checkpoint with `TrainedWeights`. The others are
  ///     copied from the checkpoint.
  ///   - dtype: The dtype of all tensors in the file.
  ///   - metadata: Metadata to add to the configuration.
  /// - Throws: `WeightError` for a parameter that isn't a tensor of the transformer;
  ///   `TensorFileError` if writing fails.
  public func writeTransformer(
    _ trained: [Parameter], dtype: DType, metadata: [String: String] = [:], to path: String
  ) throws {
    let values = Dictionary(trained.map { ($0.key, $0.tensor) }) { first, _ in first }
    try writeTransformer(
      values.mapValues(\.shape), dtype: dtype, metadata: metadata, to: path
    ) { values[$0] }
  }

  /// Writes the transformer with trained tensors that are made one at a time.
  ///
  /// - Parameters:
  ///   - trained: The shapes of the trained tensors by their keys in the unified layout.
  ///   - value: Returns the trained tensor of a key, on any device; for nil, the checkpoint's is
  ///     written.
  /// - Throws: Also the errors of `value`.
  public func writeTransformer(
    _ trained: [String: [Int]], dtype: DType, metadata: [String: String] = [:], to path: String,
    value: (_ key: String) throws -> Tensor?
  ) throws {
    let shapes = transformerShapes
    for (key, shape) in trained where shapes[key] != shape {
      throw WeightError(
        file: source.name, key: key,
        problem: "is not a tensor of the transformer with shape \(shape)")
    }
    let frozen = weights(LoadPolicy(dtype: dtype, storage: .dequantized))
    var metadata = metadata
    metadata["format"] = "pt"
    metadata["config"] = try transformerConfiguration()
    let own = self.metadata(of: .transformer)
    for key in ["model_version", "gemma_source_checkpoint"] { metadata[key] = own[key] }
    let entries = shapes.map {
      (key: String($0.key.dropFirst(Self.scope.count)), dtype: dtype, shape: $0.value)
    }
    try writeSafetensors(entries, metadata: metadata, to: path) { name in
      let key = Self.scope + name
      guard trained[key] != nil, let value = try value(key) else {
        let end = key.lastIndex(of: ".") ?? key.startIndex
        return try (frozen / String(key[..<end])).tensor(String(key[key.index(after: end)...]))
      }
      return try value.detach().to(.cpu, dtype)
    }
  }

  private func transformerConfiguration() throws -> String {
    let alone = ModelFiles.Component.allCases.flatMap(\.configurationKeys).filter {
      $0 != "transformer"
    }
    .reduce(config) { $0.replacing($1, by: nil) }
    return alone.json
  }

  /// The same checkpoint with another transformer: one written by `writeTransformer` or the
  /// official trainer.
  ///
  /// - Throws: `WeightError` that names tensors that are missing, have another shape, or aren't
  ///   part of the transformer; `TensorFileError` for a file that isn't safetensors.
  public func replacingTransformer(by path: String) throws -> Checkpoint {
    let file = try DescribedTensors.describing(openTensors(at: path))
    func unified(_ key: String) -> String {
      if key.hasPrefix(Self.scope) { return key }
      for prefix in ["diffusion_model.", "transformer."] where key.hasPrefix(prefix) {
        return Self.scope + key.dropFirst(prefix.count)
      }
      return Self.scope + key
    }
    let wanted = transformerShapes
    let byName = Dictionary(file.entries.keys.map { (unified($0), $0) }) { first, _ in first }
    func shape(_ key: String) -> [Int]? { byName[key].flatMap { file.entries[$0]?.shape } }
    func others(_ count: Int) -> String { count > 1 ? " (and \(count - 1) more)" : "" }
    /// Checks that the format of a layer can be read, as the comparison requires.
    func requireReadable(_ key: String) throws {
      let layer = key.lastIndex(of: ".").map { key[...$0].dropFirst(Self.scope.count) } ?? ""
      for prefix in ["", "diffusion_model.", Self.scope] {
        if let error = file.unsupportedFormatError(layer: prefix + layer) { throw error }
      }
    }
    let missing = wanted.keys.filter { byName[$0] == nil }.sorted()
    if let first = missing.first {
      try requireReadable(first)
      throw WeightError(
        file: path, key: String(first.dropFirst(Self.scope.count)),
        problem:
          "is missing\(others(missing.count)): the file doesn't contain the complete transformer of "
          + "\(source.name)"
      )
    }
    let unexpected = byName.keys.filter { key in
      // A quantized weight may come with a scale and a description, even if the weight that it
      // replaces doesn't.
      let isOfWeight = WeightFormats.companions.contains {
        key.hasSuffix(".\($0)") && wanted["\(key.dropLast($0.count))weight"] != nil
      }
      return wanted[key] == nil && !isOfWeight && key != Self.scope + Weights.scaledFP8Marker
    }.sorted()
    if let first = unexpected.first, let key = byName[first] {
      try requireReadable(first)
      throw WeightError(
        file: path, key: key,
        problem: "is not part of the transformer of \(source.name)\(others(unexpected.count)); "
          + "the file was made for another model")
    }
    for (key, wanted) in wanted.sorted(by: { $0.key < $1.key }) {
      guard let own = byName[key], let found = shape(key), found != wanted else { continue }
      try requireReadable(key)
      throw WeightError(
        file: path, key: own,
        problem:
          "has shape \(found), but \(source.name) has \(wanted); the file was made for another "
          + "model"
      )
    }
    // The replaced tensors and their scales are removed.
    let stays = { @Sendable (key: String) -> Bool in
      !key.hasPrefix(Self.scope)
        || KnowinglyUnused.transformer(String(key.dropFirst(Self.scope.count)))
          && key != Self.scope + Weights.scaledFP8Marker
    }
    let names = Dictionary(byName.map { ($1, $0) }) { first, _ in first }
    let combined = CombinedTensors(
      name: source.name, metadata: source.metadata,
      parts: [
        CombinedTensors.Part(file) { names[$0] },
        CombinedTensors.Part(source) { stays($0) ? $0 : nil },
      ])
    var replaced = self
    replaced.source = combined
    replaced.metadata[.transformer] = metadata(of: .transformer).merging(file.metadata) { $1 }
    return replaced
  }
}
