import NN
import Support
import TensorFiles
import Torch

/// A checkpoint of the LTX-2 family: safetensors whose metadata carries the `config` of every
/// component.
///
/// The sizes, variants and version of a model are read from that configuration only. Tensors have
/// the keys of the unified layout, regardless of the layout of the files.
public struct Checkpoint: Sendable {
  public let files: ModelFiles
  public let source: any TensorSource
  public let config: Configuration
  /// The file's version, `model_version` in the metadata; nil in LTX-2's own files. It selects
  /// defaults that users can override, never the structure of the model.
  public let version: ModelVersion?
  /// Whether the configuration was inferred from the shapes of the tensors, because the file
  /// doesn't have one.
  public internal(set) var isInferred = false

  init(files: ModelFiles, source: any TensorSource, config: Configuration, version: ModelVersion?) {
    self.files = files
    self.source = source
    self.config = config
    self.version = version
  }

  /// Opens a unified checkpoint: a file, a folder of shards or their index. Reads headers only.
  ///
  /// - Throws: `TensorFileError` for a file that isn't safetensors, `Issue` for one without an
  ///   LTX-2 configuration.
  public init(path: String) throws { try self.init(ModelFiles(unified: path)) }

  /// Opens files in any layout. Reads headers only, and of the text encoder only the projection of
  /// its features, which its file may hold.
  ///
  /// - Throws: the errors of `init(path:)` and of `replacingTransformer`.
  public init(_ files: ModelFiles) throws {
    self.files = files
    if let unified = files.unified, case let main = try ComponentFile(path: unified),
      main.isUnified || files[.transformer] != nil || files.checkpointFiles.count == 1
    {
      var parts: [CombinedTensors.Part] = []
      var config = main.config
      var replaced: [String] = []
      for component in [ModelFiles.Component.videoVAE, .audioVAE] {
        guard let path = files[component] else { continue }
        let file = try ComponentFile(path: path)
        parts.append(CombinedTensors.Part(file.source, rename: file.keys(of: component)))
        config = try component.configurationKeys.reduce(config) {
          try $0.replacing($1, by: file.part($1, of: component))
        }
        replaced += component.configurationKeys  // which are the prefixes of their tensors too
      }
      self.config = config
      version = main.version
      // A component that is alone in its file may lack its prefix.
      let tensors = try Self.named(main.source, as: main.unifiedNames)
      parts.append(
        CombinedTensors.Part(tensors) { [replaced] key in
          replaced.contains { key.hasPrefix("\($0).") } ? nil : key
        })
      let source = parts.count == 1 ? tensors : CombinedTensors(name: unified, parts: parts)
      let checkpoint = Checkpoint(files: files, source: source, config: config, version: version)
      self.source =
        try files[.transformer].map { try checkpoint.replacingTransformer(by: $0).source } ?? source
      return
    }
    var parts: [CombinedTensors.Part] = []
    var config: Configuration?
    var version: ModelVersion?
    for component in ModelFiles.Component.allCases where component != .textEncoder {
      // The checkpoint may be a transformer alone, beside the files of the VAEs.
      guard let path = files[component] ?? (component == .transformer ? files.unified : nil) else {
        continue
      }
      let file = try ComponentFile(path: path)
      parts.append(CombinedTensors.Part(file.source, rename: file.keys(of: component)))
      // The configuration of other components in the file does not count.
      config = try component.configurationKeys.reduce(config ?? file.sharedConfig) {
        try $0.replacing($1, by: file.part($1, of: component))
      }
      version = version ?? file.version
    }
    guard let config else {
      throw Issue(
        ["checkpoint"], "is missing",
        suggestion: "Give a checkpoint, or the files of its components.")
    }
    if let textEncoder = files.textEncoder, isFile(textEncoder) {
      parts.append(
        CombinedTensors.Part(try DescribedTensors.describing(SafetensorsFile(path: textEncoder))) {
          key in
          key.hasPrefix("\(Prefix.textProjection).") || key.contains("_embeddings_connector.")
            ? key : nil
        })
    }
    source = CombinedTensors(name: files.name, parts: parts)
    self.config = config
    self.version = version
  }

  /// Checks that the files describe components, by their keys in `config`: `transformer`, `vae`.
  ///
  /// - Throws: `Issue` that names the first missing one and the setting to add.
  public func require(_ components: String...) throws {
    guard let missing = components.first(where: { !config.has($0) }) else { return }
    if let error = source.unsupportedFormatError(anywhereBelow: "") { throw error }
    let component =
      ModelFiles.Component.allCases.first { $0.configurationKeys.contains(missing) }?.title
      ?? missing
    let there = ["transformer", "vae", "audio_vae", "vocoder"].filter(config.has)
    let content = there.isEmpty ? "no part of LTX-2" : "only " + there.joined(separator: " and ")
    throw config.error(
      missing,
      files.unified == nil
        ? "is missing: the given files have \(content). Give the file of the \(component) too"
        : "is missing: the file has \(content). Give an LTX-2 checkpoint with all components, or "
          + "the "
          + "file of the \(component) too")
  }

  /// The prefixes of the components' keys.
  public enum Prefix {
    public static let transformer = "model.diffusion_model"
    public static let videoVAE = "vae"
    public static let textProjection = "text_embedding_projection"
  }

  /// A view of all of the file's tensors.
  public func weights(_ policy: LoadPolicy = LoadPolicy()) -> Weights { Weights(source, policy) }

  /// The transformer with the given modalities and adapters.
  ///
  /// - Parameters:
  ///   - policy: The loading policy; `TrainedWeights.transformer(_:)` selects the tensors to train.
  ///   - modalities: The modalities that are built. The weights of the other one are neither read
  ///     nor trained.
  ///   - training: The modalities that a training pass has; nil for all that are built.
  ///   - generating: The modalities that the loss is computed for; nil for all that are built. A
  ///     layer that can't change their loss is not trained (`Set.depend(on:built:blocks:)`).
  /// - Throws: `WeightError`, also for an adapter whose module the model doesn't have;
  ///   `UnmatchedTarget` for a target or pattern that matches nothing; `Issue` if the
  ///   adapters to continue from don't match those of the layers.
  public func transformer(
    _ policy: LoadPolicy = LoadPolicy(), modalities: Set<Modality> = .both,
    training: Set<Modality>? = nil, generating: Set<Modality>? = nil
  ) throws -> Transformer {
    try require("transformer")
    let configuration = try TransformerConfiguration(config)
    let root = weights(
      excludingUnused(
        policy, modalities, training: training, generating: generating,
        blocks: configuration.blocks))
    let transformer = try Transformer(
      root / Prefix.transformer, configuration: configuration, modalities: modalities)
    try root.requireAllAdaptersUsed()
    return transformer
  }

  /// The policy without training tensors that can't change the loss.
  func excludingUnused(
    _ policy: LoadPolicy, _ modalities: Set<Modality>, training: Set<Modality>?,
    generating: Set<Modality>?, blocks: Int
  ) -> LoadPolicy {
    policy.excludingFromTraining { key in
      let name = key.dropFirst(Prefix.transformer.count + 1)
      // Weights that only other passes use are not trained.
      let present = training ?? modalities
      return !LoRAPart(path: String(name)).isBuilt(present)
        || !(generating ?? present).depend(on: name, built: present, blocks: blocks)
    }
  }
}

/// The version of a model: `2.3.0`, `2.3.rc1`, `2.3-rc1`.
public struct ModelVersion: Sendable, Comparable, CustomStringConvertible {
  /// The numeric parts, up to the first part that isn't a number.
  public let parts: [Int]
  public let description: String

  /// Nil for a string that does not begin with a number.
  public init?(_ text: String) {
    let numbers = text.split(whereSeparator: { $0 == "." || $0 == "-" }).prefix {
      $0.allSatisfy(\.isASCIIDigit)
    }
    parts = numbers.compactMap { Int($0) }
    description = text
    guard !parts.isEmpty, parts.count == numbers.count else { return nil }
  }

  /// 2.3 sorts before 2.3.0 and 2.3.1, because candidates for 2.3 do.
  public static func < (a: ModelVersion, b: ModelVersion) -> Bool {
    a.parts.lexicographicallyPrecedes(b.parts)
  }

  public static func == (a: ModelVersion, b: ModelVersion) -> Bool { a.parts == b.parts }

  /// Whether the version has these parts, or is a later one.
  public func isAtLeast(_ parts: Int...) -> Bool { !self.parts.lexicographicallyPrecedes(parts) }
}

extension Character {
  fileprivate var isASCIIDigit: Bool { ("0"..."9").contains(self) }
}
