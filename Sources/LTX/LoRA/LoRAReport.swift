import Foundation
import NN
import TensorFiles
import Torch

/// What a LoRA file holds.
public struct LoRAReport: Codable, Sendable {
  public struct Layer: Codable, Sendable {
    /// In ComfyUI's format.
    public let path: String
    public let part: LoRAPart
    public let rank: Int
    public let inputs: Int
    public let outputs: Int
    public let dtype: String
    /// alpha / rank, or 1.
    public let scale: Double
    /// The Frobenius norm of scale * B A.
    public let norm: Double
  }

  public struct Part: Codable, Sendable {
    public let part: LoRAPart
    public let layers: Int
    /// Of all of its layers together.
    public let norm: Double
  }

  public struct Target: Codable, Sendable {
    /// What the layers' paths end in.
    public let name: String
    public let layers: Int
  }

  public let file: String
  public let bytes: Int
  public let format: LoRAFormat
  public let dtypes: [String]
  /// Ascending.
  public let ranks: [Int]
  /// Whether B A is multiplied by anything but 1, because of an alpha.
  public let hasAlpha: Bool
  /// Whether some layers have a magnitude; norms are those of B A alone.
  public let isDoRA: Bool
  /// What it was made for, as far as the file tells, and how that is known.
  public let base: String
  public let baseReason: String
  /// A checkpoint that all adapters were found to fit.
  public let fits: String?
  public let triggerWord: String?
  public let metadata: [String: String]
  public let parts: [Part]
  public let targets: [Target]
  public let layers: [Layer]
  /// Changes of biases, which are not used.
  public let ignoredKeys: [String]

  /// - Parameter checkpoint: to check the adapters against, and to take the generation from.
  /// - Throws: `WeightError` that names the first adapter that does not fit the checkpoint.
  public init(_ lora: LoRAFile, checkpoint: Checkpoint? = nil) throws {
    if let checkpoint { try lora.requireFit(checkpoint) }
    file = lora.path
    bytes = try FileManager.default.attributesOfItem(atPath: lora.path)[.size] as? Int ?? 0
    format = lora.format
    dtypes = Set(lora.modules.flatMap { [$0.down.dtype.rawValue, $0.up.dtype.rawValue] }).sorted()
    ranks = Set(lora.modules.map(\.rank)).sorted()
    hasAlpha = lora.modules.contains { $0.scale != 1 }
    isDoRA = lora.modules.contains { $0.magnitude != nil }
    fits = checkpoint?.source.name
    metadata = lora.metadata
    ignoredKeys = lora.ignoredKeys
    triggerWord = Self.triggerWord(lora.metadata)
    let layers = try lora.modules.map { module in
      Layer(
        path: module.path, part: LoRAPart(path: module.path), rank: module.rank, inputs: module.down.size(1),
        outputs: module.up.size(0), dtype: module.up.dtype.rawValue, scale: module.scale,
        norm: try abs(module.scale) * Self.norm(module.down, module.up))
    }
    parts = LoRAPart.allCases.compactMap { part in
      let own = layers.filter { $0.part == part }
      return own.isEmpty
        ? nil
        : Part(part: part, layers: own.count, norm: own.reduce(0) { $0 + $1.norm * $1.norm }.squareRoot())
    }
    targets = Dictionary(grouping: layers) { Self.target($0.path) }
      .map { Target(name: $0, layers: $1.count) }.sorted { $0.name < $1.name }
    self.layers = layers
    (base, baseReason) = try Self.base(lora, checkpoint)
  }

  /// |B A| by the two R x R Gram matrices: |B A|^2 = sum of B^T B * A A^T.
  static func norm(_ down: Tensor, _ up: Tensor) throws -> Double {
    let (a, b) = (try down.to(.float64), try up.to(.float64))
    let square = try (b.transpose(0, 1).matmul(b) * a.matmul(a.transpose(0, 1))).sum().item()
    return max(square, 0).squareRoot()
  }

  /// The end of a layer's path; a number is named together with what holds it.
  private static func target(_ path: String) -> String {
    let parts = path.split(separator: ".")
    if let net = parts.lastIndex(of: "net"), net > 0 { return parts[(net - 1)...].joined(separator: ".") }
    return parts.suffix(parts.last?.allSatisfy(\.isNumber) == true ? 2 : 1).joined(separator: ".")
  }

  /// The generations differ in a few layers, and in how many modulation rows there are.
  private static func base(
    _ lora: LoRAFile, _ checkpoint: Checkpoint?
  ) throws -> (version: String, reason: String) {
    if let checkpoint {
      let c = try checkpoint.config.object("transformer", isOptional: true)
      let isNew = try c.bool("cross_attention_adaln", default: false)
      return (isNew ? "LTX-2.3" : "LTX-2", "it fits the checkpoint, which is one")
    }
    for module in lora.modules {
      let names = module.path.split(separator: ".")
      if names.contains("to_gate_logits") || names.contains(where: { $0.hasSuffix("prompt_adaln_single") }) {
        return ("LTX-2.3", "it changes \(module.path), which LTX-2 does not have")
      }
      if names.contains(where: { $0.hasSuffix("caption_projection") }) || names.last == "aggregate_embed" {
        return ("LTX-2", "it changes \(module.path), which LTX-2.3 does not have")
      }
      if names.suffix(2) == ["adaln_single", "linear"] || names.suffix(2) == ["audio_adaln_single", "linear"]
      {
        let rows = module.up.size(0) / module.down.size(1)
        if rows == 6 { return ("LTX-2", "\(module.path) has 6 rows of modulation") }
        if rows == 9 { return ("LTX-2.3", "\(module.path) has 9 rows of modulation") }
      }
    }
    for key in [
      "model_version", "base_model_version", "ss_base_model_version", "base_model", "modelspec.architecture",
    ] {
      if let value = lora.metadata[key], !value.isEmpty { return (value, "its metadata says so in \(key)") }
    }
    return (
      "LTX-2 or LTX-2.3", "it changes only layers that both have; --model CHECKPOINT tells whether it fits"
    )
  }

  /// The word that calls the LoRA in a prompt, as trainers write it down; or the tag that most captions had.
  private static func triggerWord(_ metadata: [String: String]) -> String? {
    for key in [
      "modelspec.trigger_phrase", "trigger_phrase", "trigger_word", "trigger_words", "ss_trigger_word",
      "lora_trigger", "activation_text",
    ] {
      if let value = metadata[key], !value.isEmpty { return value }
    }
    // A guess is not worth minutes: tables of whole data sets can have megabytes.
    guard let json = metadata["ss_tag_frequency"], json.utf8.count <= 1 << 20 else { return nil }
    // What can't be read tells nothing.
    guard case .object(let folders) = try? JSONDecoder().decode(JSONValue.self, from: Data(json.utf8)) else {
      return nil
    }
    var counts: [String: Double] = [:]
    for case .object(let tags) in folders.values {
      for case (let tag, .number(let count)) in tags { counts[tag, default: 0] += count }
    }
    return counts.max { ($0.value, $1.key) < ($1.value, $0.key) }?.key
  }
}

extension LoRAReport: CustomStringConvertible {
  public var description: String {
    let ranks = ranks.count == 1 ? "\(ranks[0])" : "\(ranks[0]) to \(ranks[ranks.count - 1])"
    var lines = [
      "\(file): \(layers.count) \(isDoRA ? "DoRA " : "")adapters, \(format.title) format, \(dtypes.joined(separator: " and ")), \(bytes) bytes",
      "rank     \(ranks)" + (hasAlpha ? ", scaled by alpha / rank" : ""),
      "base     \(base): \(baseReason)",
    ]
    if let fits { lines.append("fits     \(fits)") }
    if let triggerWord { lines.append("trigger  \(triggerWord.displayed())") }
    for part in parts {
      lines.append(
        "\(Self.padded(part.part.rawValue, 8)) \(part.layers) adapters, |B A| \(Self.number(part.norm))")
    }
    lines.append("targets  " + targets.map { "\($0.name) (\($0.layers))" }.joined(separator: ", "))
    lines.append("layers")
    let width = layers.map(\.path.count).max() ?? 0
    for layer in layers {
      let scale = layer.scale == 1 ? "" : "  scale \(Self.number(layer.scale))"
      lines.append(
        "  \(Self.padded(layer.path, width))  rank \(layer.rank)  |B A| \(Self.number(layer.norm))\(scale)")
    }
    if !ignoredKeys.isEmpty { lines.append("not used \(ignoredKeys.joined(separator: ", "))") }
    if !metadata.isEmpty {
      lines.append("metadata")
      let shown = Self.first(50, of: metadata.keys)
      lines += shown.map { "  \($0.displayed()): \((metadata[$0] ?? "").displayed())" }
      if shown.count < metadata.count {
        lines.append("  and \(metadata.count - shown.count) more; --json prints all")
      }
    }
    return lines.joined(separator: "\n")
  }

  /// The first of some names in alphabetical order, without sorting all of what may be a million.
  static func first(_ count: Int, of names: some Sequence<String>) -> [String] {
    var first: [String] = []
    for name in names where first.count < count || name < first[count - 1] {
      first.insert(name, at: first.firstIndex { name < $0 } ?? first.count)
      if first.count > count { first.removeLast() }
    }
    return first
  }

  private static func padded(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
  }

  private static func number(_ value: Double) -> String { String(format: "%.4g", value) }
}
