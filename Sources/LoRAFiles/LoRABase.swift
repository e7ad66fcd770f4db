import Foundation
import LTX
import NN
import TensorFiles

/// The versions of LTX-2, whose transformers differ in a few layers.
public enum ModelGeneration: String, Codable, Sendable, CaseIterable {
  case ltx2 = "LTX-2"
  case ltx23 = "LTX-2.3"
}

extension Checkpoint {
  /// The version, from the configuration: LTX-2.3 modulates its text cross-attention.
  ///
  /// - Throws: `Issue` for a damaged configuration.
  public var generation: ModelGeneration {
    get throws {
      let c = try config.object("transformer", isOptional: true)
      return try c.bool("cross_attention_adaln", default: false) ? .ltx23 : .ltx2
    }
  }
}

/// The model that a LoRA was trained on, as far as known from its file.
public struct LoRABase: Sendable, Equatable {
  /// Nil if the file doesn't name its model, or names another one.
  public let generation: ModelGeneration?
  /// `LTX-2`, `LTX-2 or LTX-2.3`, `LTX-Video 0.9`.
  public let name: String
  /// The evidence for it, as a clause.
  public let reason: String
}

extension LoRAFile {
  /// The base model, from the layers that are changed, or else from the metadata.
  public var base: LoRABase {
    if let base = structuralBase ?? declaredBase { return base }
    if isNarrow {
      return LoRABase(
        generation: nil, name: "LTX-Video 0.9 (2B)",
        reason: "its layers are 2048 wide, as those of that model; LTX-2's are 4096 wide")
    }
    return LoRABase(
      generation: nil, name: "LTX-2 or LTX-2.3",
      reason: "it changes only layers that both have; `checkpoint` checks whether it fits")
  }

  /// Features that only one of the versions has.
  private var structuralBase: LoRABase? {
    func base(_ generation: ModelGeneration, _ reason: String) -> LoRABase {
      LoRABase(generation: generation, name: generation.rawValue, reason: reason)
    }
    for module in modules {
      let names = module.path.split(separator: ".")
      if names.contains("to_gate_logits")
        || names.contains(where: { $0.hasSuffix("prompt_adaln_single") })
        || names.last == "video_aggregate_embed" || names.last == "audio_aggregate_embed"
      {
        return base(.ltx23, "it changes \(module.path.displayed()), which LTX-2 does not have")
      }
      if names.contains(where: { $0.hasSuffix("caption_projection") })
        || names.last == "aggregate_embed"
      {
        return base(.ltx2, "it changes \(module.path.displayed()), which LTX-2.3 does not have")
      }
      if names.suffix(2) == ["adaln_single", "linear"]
        || names.suffix(2) == ["audio_adaln_single", "linear"]
      {
        let shape = module.adapter.weightShape ?? [0, 1]
        let rows = shape[0] / shape[1]
        if rows == 6 { return base(.ltx2, "\(module.path) has 6 rows of modulation") }
        if rows == 9 { return base(.ltx23, "\(module.path) has 9 rows of modulation") }
      }
    }
    return nil
  }

  /// Keys under which trainers write the base model, the most specific first.
  private static let baseKeys = [
    "model_version", "base_model", "base_model_version", "ss_base_model_version",
    "modelspec.architecture",
    "ss_sd_model_name", "base_model_file",
  ]

  /// The base model in the metadata.
  var declaredBase: LoRABase? {
    for key in Self.baseKeys {
      guard let text = metadata[key], !text.isEmpty else { continue }
      let isBare = key == "model_version"
      let reason = "its metadata say \"\(text.displayed(limit: 60))\" in \(key)"
      switch Self.version(in: text, isBare: isBare) {
      case let version? where version[0] == 0:
        return LoRABase(generation: nil, name: "LTX-Video 0.9", reason: reason)
      case let version? where version[0] == 2:
        let generation: ModelGeneration = version.count > 1 && version[1] >= 3 ? .ltx23 : .ltx2
        return LoRABase(generation: generation, name: generation.rawValue, reason: reason)
      default:
        // File names can be anything.
        if key == "ss_sd_model_name" || key == "base_model_file" { continue }
        return LoRABase(generation: nil, name: text.displayed(limit: 60), reason: reason)
      }
    }
    return nil
  }

  /// The version in the name of a model by Lightricks: [2, 3] in `ltx-2.3-22b-dev`, [0, 9, 7] in
  /// `ltxv-13b-0.9.7`.
  ///
  /// - Parameter isBare: Whether the text may be the version alone.
  static func version(in text: String, isBare: Bool = false) -> [Int]? {
    let text = text.prefix(300).lowercased()
    guard let start = text.range(of: "ltx")?.upperBound ?? (isBare ? text.startIndex : nil) else {
      return nil
    }
    var rest = text[start...]
    while let first = rest.firstIndex(where: { $0.isASCII && $0.isNumber }) {
      let number = rest[first...].prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
      rest = rest[number.endIndex...]
      // 19b and 22b are numbers of parameters.
      if rest.first == "b" { continue }
      let parts = number.split(separator: ".").compactMap { Int($0) }
      return parts.isEmpty ? nil : parts
    }
    return nil
  }

  /// A warning if a user applies the LoRA to a checkpoint other than the base model that its file
  /// names. Layers of both versions have the same shapes, so nothing else would reveal this.
  public func baseWarning(_ checkpoint: Checkpoint) throws -> String? {
    guard let declared = declaredBase else { return nil }
    let generation = try checkpoint.generation
    guard declared.generation != generation else { return nil }
    return
      "\(path): was trained on \(declared.name) (\(declared.reason)), but \(checkpoint.source.name) is "
      + "\(generation.rawValue). It fits, but its effect will differ from training. "
      + "Use a LoRA that was trained on \(generation.rawValue)"
  }

  /// The same as `baseWarning`, also for a file that doesn't name its base.
  public func baseWarningOrDoubt(_ checkpoint: Checkpoint) throws -> String? {
    if let warning = try baseWarning(checkpoint) { return warning }
    guard base.generation == nil else { return nil }
    let generation = try checkpoint.generation.rawValue
    return "\(path): does not say which model it was trained on, and fits both LTX-2 and LTX-2.3. "
      + "Make sure that it was trained on \(generation), which \(checkpoint.source.name) is"
  }
}
