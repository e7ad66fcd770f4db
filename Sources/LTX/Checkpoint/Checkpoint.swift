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
  public internal(set) var source: any TensorSource
  public let config: Configuration
  /// The metadata of the file that each component comes from.
  var metadata: [ModelFiles.Component: [String: String]] = [:]
  /// Whether the configuration was inferred from the shapes of the tensors, because the file
  /// doesn't have one.
  public internal(set) var isInferred = false

  init(
    files: ModelFiles, source: any TensorSource, config: Configuration,
    metadata: [ModelFiles.Component: [String: String]] = [:]
  ) {
    self.files = files
    self.source = source
    self.config = config
    self.metadata = metadata
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
    if let unified = files.unified, case let main = try ComponentFile(path: unified),
      main.isUnified || files[.transformer] != nil || files.checkpointFiles.count == 1
    {
      self = try Self.unified(main, files)
    } else {
      self = try Self.split(files)
    }
  }

  /// A file of all components, some of which other files replace.
  private static func unified(_ main: ComponentFile, _ files: ModelFiles) throws -> Checkpoint {
    var parts: [CombinedTensors.Part] = []
    var config = main.config
    var metadata: [ModelFiles.Component: [String: String]] = [:]
    for component in ModelFiles.Component.allCases { metadata[component] = main.metadata }
    var replaced: [String] = []
    for component in [ModelFiles.Component.videoVAE, .audioVAE, .durationHead] {
      guard let path = files[component] else { continue }
      let file = try ComponentFile(path: path)
      config = try component.configurationKeys.reduce(config) {
        try $0.replacing($1, by: file.part($1, of: component))
      }
      parts.append(try file.part(of: component))
      metadata[component] = file.metadata
      replaced += component.prefixes
    }
    // A component that is alone in its file may lack its prefix.
    let tensors = try named(main.source, as: main.unifiedNames)
    parts.append(
      CombinedTensors.Part(tensors) { [replaced] key in
        replaced.contains(where: key.hasPrefix) ? nil : key
      })
    let scope = Prefix.textProjection + "."
    if !tensors.entries.keys.contains(where: { $0.hasPrefix(scope) }) {
      parts += try projection(files.textEncoder)
    }
    let source =
      parts.count == 1 ? tensors : CombinedTensors(name: main.source.name, parts: parts)
    let checkpoint = Checkpoint(files: files, source: source, config: config, metadata: metadata)
    return try files[.transformer].map { try checkpoint.replacingTransformer(by: $0) }
      ?? checkpoint
  }

  /// A file for each component; the transformer's may be given as the checkpoint.
  private static func split(_ files: ModelFiles) throws -> Checkpoint {
    var parts: [CombinedTensors.Part] = []
    var config: Configuration?
    var metadata: [ModelFiles.Component: [String: String]] = [:]
    for component in ModelFiles.Component.allCases where component != .textEncoder {
      guard let path = files[component] ?? (component == .transformer ? files.unified : nil) else {
        continue
      }
      let file = try ComponentFile(path: path)
      // The configuration of other components in the file does not count.
      config = try component.configurationKeys.reduce(config ?? file.sharedConfig) {
        try $0.replacing($1, by: file.part($1, of: component))
      }
      // A duration head states the widths of its inputs as those of a transformer.
      if component == .durationHead, let own = config, !own.has("transformer") {
        config = own.replacing("transformer", by: try file.part("transformer", of: component))
      }
      parts.append(try file.part(of: component))
      metadata[component] = file.metadata
    }
    guard let config else {
      throw Issue(
        ["checkpoint"], "is missing",
        suggestion: "Give a checkpoint, or the files of its components.")
    }
    parts += try projection(files.textEncoder)
    return Checkpoint(
      files: files, source: CombinedTensors(name: files.name, parts: parts), config: config,
      metadata: metadata)
  }

  /// The projection of text features in a text encoder's file; empty for a folder, which never
  /// holds it.
  private static func projection(_ textEncoder: String?) throws -> [CombinedTensors.Part] {
    guard let textEncoder, isFile(textEncoder) else { return [] }
    return [
      CombinedTensors.Part(try DescribedTensors.describing(SafetensorsFile(path: textEncoder))) {
        key in
        key.hasPrefix("\(Prefix.textProjection).") || key.contains("_embeddings_connector.")
          ? key : nil
      }
    ]
  }

  /// The metadata of the file that a component comes from: its own, or the unified one; empty for
  /// a component that no file was given for.
  public func metadata(of component: ModelFiles.Component) -> [String: String] {
    metadata[component] ?? [:]
  }

  /// The version that a component's file states, `model_version` in its metadata; nil in LTX-2's
  /// own files. It selects defaults that users can override, never the structure of a model.
  public func version(of component: ModelFiles.Component) -> ModelVersion? {
    metadata(of: component)["model_version"].flatMap(ModelVersion.init)
  }

  /// The transformer's version, or without a transformer that of the first file.
  public var version: ModelVersion? {
    let first = ModelFiles.Component.allCases.first { metadata[$0] != nil }
    return first.flatMap(version(of:))
  }

  /// Checks that the files describe components, by their keys in `config`: `transformer`, `vae`.
  ///
  /// - Throws: `Issue` that names the first missing one and the setting to add.
  public func require(_ components: String...) throws {
    guard let missing = components.first(where: { !describes($0) }) else { return }
    if let error = source.unsupportedFormatError(anywhereBelow: "") { throw error }
    let component =
      ModelFiles.Component.allCases.first { $0.configurationKeys.contains(missing) }?.title
      ?? missing
    let there = ModelFiles.Component.allCases.flatMap(\.configurationKeys).filter(describes)
    let content = there.isEmpty ? "no part of LTX-2" : "only " + there.joined(separator: " and ")
    throw config.error(
      missing,
      files.unified == nil
        ? "is missing: the given files have \(content). Give the file of the \(component) too"
        : "is missing: the file has \(content). Give an LTX-2 checkpoint with all components, or "
          + "the "
          + "file of the \(component) too")
  }

  /// Whether the files describe a component. The file of a duration head states the widths of its
  /// inputs as a transformer's configuration, without having one.
  func describes(_ component: String) -> Bool {
    guard config.has(component) else { return false }
    let scope = Prefix.transformer + "."
    return component != "transformer" || source.entries.keys.contains { $0.hasPrefix(scope) }
  }

  /// The prefixes of the components' keys.
  public enum Prefix {
    public static let transformer = "model.diffusion_model"
    public static let videoVAE = "vae"
    public static let textProjection = "text_embedding_projection"
    public static let durationHead = "duration_head"
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
      // Training marks no tokens, so the loss doesn't depend on their embedding.
      return name == TransformerConfiguration.keyframeEmbeddingKey
        || !LoRAPart(path: String(name)).isBuilt(present)
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
    let numbers = text.split(
      omittingEmptySubsequences: false, whereSeparator: { $0 == "." || $0 == "-" }
    ).prefix { !$0.isEmpty && $0.allSatisfy(\.isASCIIDigit) }
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
