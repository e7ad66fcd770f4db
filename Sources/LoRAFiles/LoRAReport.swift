import Foundation
import LTX
import NN
import Support
import TensorFiles
import Torch

/// The contents of a LoRA file.
public struct LoRAReport: Codable, Sendable {
  public struct Layer: Codable, Sendable {
    /// The path in ComfyUI's format.
    public let path: String
    public let part: LoRAPart
    /// `LoRA`
    public let kind: String
    /// Nil for an adapter without a rank.
    public let rank: Int?
    public let inputs: Int
    public let outputs: Int
    public let dtype: String
    /// alpha / rank, or 1.
    public let scale: Double
    /// The Frobenius norm of the change; for DoRA, only with a checkpoint.
    public let norm: Double
    /// `norm` relative to the base weight's; nil without a checkpoint.
    public let relative: Double?
    /// Whether `ltx generate` and `ltx lora merge --into` apply the adapter.
    public let isUsed: Bool
    /// The reason if it isn't used.
    public let unusedReason: String?
  }

  /// The layers of a modality, or of consecutive blocks.
  public struct Part: Codable, Sendable {
    /// A modality, `video`, `audio` or `cross`; or `blocks 0 to 11`.
    public let part: String
    public let layers: Int
    /// The norm of all of its layers together.
    public let norm: Double
    /// The norm relative to the base weights; nil without a checkpoint.
    public let relative: Double?
    /// The number of layers whose adapter is exactly zero.
    public let zeroLayers: Int
  }

  public struct Target: Codable, Sendable {
    /// The common end of the layers' paths.
    public let name: String
    public let layers: Int
  }

  public let file: String
  public let bytes: Int
  public let format: LoRAFormat
  public let dtypes: [String]
  /// The ranks in ascending order.
  public let ranks: [Int]
  /// Whether changes are multiplied by a scale other than 1, because of an alpha.
  public let hasAlpha: Bool
  /// The kinds of the adapters, sorted: `LoRA`.
  public let kinds: [String]
  /// The base model, if known from the file, and the evidence for it.
  public let base: String
  public let baseReason: String
  /// The versions of LTX-2 that have the layers of the file.
  public let generations: [GenerationFit]
  /// A checkpoint that all adapters fit.
  public let fits: String?
  /// Warnings about its use: a base other than the checkpoint, adapters without effect or use.
  public let warnings: [String]
  /// Tensors that hold NaN or infinite values; such a LoRA can't be used.
  public let nonFiniteKeys: [String]
  /// Findings about the size of the adapters' changes, as sentences.
  public let change: [String]
  public let triggerWord: String?
  /// The losses before and after training, as measured by the run that wrote the file.
  public let validationLosses: [WeightsMetadata.ValidationLoss]
  public let metadata: [String: String]
  public let parts: [Part]
  public let depth: [Part]
  public let targets: [Target]
  public let layers: [Layer]
  /// Changes of biases, which aren't used.
  public let ignoredKeys: [String]
  /// Modules of other models in the file, which aren't used, by component.
  public let otherModules: [String: [String]]

  public var isFinite: Bool { nonFiniteKeys.isEmpty }

  /// - Parameters:
  ///   - checkpoint: The checkpoint to check the adapters against, and to compare them with.
  ///   - report: Called after each layer.
  /// - Throws: `WeightError` that names the first adapter that doesn't fit the checkpoint.
  public init(
    _ lora: LoRAFile, checkpoint: Checkpoint? = nil,
    report: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
  ) throws {
    if let checkpoint { try lora.requireFit(checkpoint) }
    file = lora.path
    bytes = try FileManager.default.attributesOfItem(atPath: lora.path)[.size] as? Int ?? 0
    format = lora.format
    dtypes = Set(lora.modules.flatMap { $0.adapter.tensors.map(\.tensor.dtype.rawValue) }).sorted()
    ranks = Set(lora.modules.compactMap(\.adapter.rank)).sorted()
    hasAlpha = lora.modules.contains { $0.adapter.scale != 1 }
    kinds = Set(lora.modules.map(\.kind.title)).sorted()
    fits = checkpoint?.source.name
    metadata = lora.metadata
    ignoredKeys = lora.ignoredKeys
    otherModules = lora.otherModules
    triggerWord = Self.triggerWord(lora.metadata)
    validationLosses = WeightsMetadata.ValidationLoss.read(lora.metadata)
    nonFiniteKeys = try lora.readContents().nonFiniteKeys
    let change = try AdapterChange(lora, checkpoint: checkpoint, report: report)
    self.change = change.sentences
    let layers = zip(lora.modules, change.layers).map { module, change in
      Layer(
        path: module.path, part: change.part, kind: module.kind.title, rank: module.adapter.rank,
        inputs: module.adapter.weightShape?.last ?? 0,
        outputs: module.adapter.weightShape?.first ?? 0, dtype: module.adapter.dtype.rawValue,
        scale: module.adapter.scale, norm: change.norm, relative: change.relative,
        isUsed: module.isOfTransformer, unusedReason: module.unusedReason)
    }
    func part(_ group: AdapterChange.Group) -> Part {
      Part(
        part: group.name, layers: group.layers, norm: group.nonFiniteLayers > 0 ? .nan : group.norm,
        relative: group.relative, zeroLayers: group.zeroLayers)
    }
    parts = change.parts.map(part)
    depth = change.depth().map(part)
    targets = Dictionary(grouping: layers) { Self.target($0.path) }
      .map { Target(name: $0, layers: $1.count) }.sorted { $0.name < $1.name }
    self.layers = layers
    warnings = try [checkpoint.flatMap { try lora.baseWarning($0) }, Self.useWarning(layers)]
      .compactMap {
        $0
      }
    let generation = try checkpoint?.generation
    generations = try lora.generationFits()
    let own = lora.base(generations)
    base = generation?.rawValue ?? own.name
    baseReason = generation == nil ? own.reason : "it fits the checkpoint, which is one"
  }

  private static func useWarning(_ layers: [Layer]) -> String? {
    let unused = layers.filter { !$0.isUsed }
    guard let reason = unused.first?.unusedReason else { return nil }
    return unused.count == layers.count
      ? "ltx generate uses none of its adapters (\(layers.count)): \(reason)"
      : "ltx generate does not use \(unused.count) of \(layers.count) adapters: \(reason)"
  }

  /// The end of a layer's path; a number is shown together with its parent.
  private static func target(_ path: String) -> String {
    let parts = path.split(separator: ".")
    if let net = parts.lastIndex(of: "net"), net > 0 {
      return parts[(net - 1)...].joined(separator: ".")
    }
    return parts.suffix(parts.last?.allSatisfy(\.isNumber) == true ? 2 : 1).joined(separator: ".")
  }

  /// The trigger word of the LoRA, as trainers record it; or the tag that most captions had.
  private static func triggerWord(_ metadata: [String: String]) -> String? {
    for key in [
      "modelspec.trigger_phrase", "trigger_phrase", "trigger_word", "trigger_words",
      "ss_trigger_word",
      "lora_trigger", "activation_text",
    ] {
      if let value = metadata[key], !value.isEmpty { return value }
    }
    // A guess isn't worth minutes: tables of complete datasets can have megabytes.
    guard let json = metadata["ss_tag_frequency"], json.utf8.count <= 1 << 20 else { return nil }
    // A table that can't be read is ignored.
    guard case .object(let folders) = try? JSON(parsing: json) else { return nil }
    var counts: [String: Double] = [:]
    for case .object(let tags) in folders.values {
      for case (let tag, .number(let count)) in tags { counts[tag, default: 0] += count.double }
    }
    return counts.max { ($0.value, $1.key) < ($1.value, $0.key) }?.key
  }
}
