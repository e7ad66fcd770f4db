import Foundation
import LTX
import NN
import TensorFiles

/// The versions of LTX-2, whose transformers differ in a few layers.
public enum ModelGeneration: String, Codable, Sendable, CaseIterable {
  case ltx2 = "LTX-2"
  case ltx23 = "LTX-2.3"
  case ltx25 = "LTX-2.5"

  /// The name in metadata: `ltx-2.3`.
  var architecture: String { rawValue.lowercased() }

  /// Small transformers with the layers that models of this version have.
  var variants: [TinyTransformer] {
    switch self {
    case .ltx2: [TinyTransformer(generation: .ltx2)]
    case .ltx23: [TinyTransformer(generation: .ltx23)]
    case .ltx25: [.ltx25(), .ltx25(isSplit: true)]
    }
  }
}

extension Checkpoint {
  /// The version that the file states, or else that of the layers that its configuration describes:
  /// LTX-2.3 modulates its text cross-attention, and LTX-2.5 has keys of its own.
  ///
  /// - Throws: `Issue` for a damaged configuration.
  public var generation: ModelGeneration {
    get throws {
      let c = try config.object("transformer", isOptional: true)
      guard try c.bool("cross_attention_adaln", default: false) else { return .ltx2 }
      let isNewer =
        try version?.isAtLeast(2, 5) ?? false
        || !c.bool("ff_bias", default: true) || !c.bool("audio_ff_bias", default: true)
        || !c.bool("use_prompt_adaln_single", default: true)
        || c.bool("use_keyframes_abs_pos_embedding", default: false)
      return isNewer ? .ltx25 : .ltx23
    }
  }
}

/// The model that a LoRA was trained on, as far as known from its file.
public struct LoRABase: Sendable, Equatable {
  /// Nil if the file doesn't name its model, or names another one.
  public let generation: ModelGeneration?
  /// `LTX-2`, `LTX-2.3 or LTX-2.5`, `LTX-Video 0.9`.
  public let name: String
  /// The evidence for it, as a clause.
  public let reason: String
}

extension LoRAFile {
  /// The base model: from the layers that are changed if only one version has them, or else from
  /// the metadata.
  ///
  /// - Throws: The errors of building a small model of each version in memory.
  public var base: LoRABase {
    get throws { try base(generationFits()) }
  }

  func base(_ fits: [GenerationFit]) -> LoRABase {
    let possible = fits.filter(\.fits)
    if possible.count == 1, let only = possible.first {
      let reason = fits.first { !$0.fits }?.reason ?? only.reason
      return LoRABase(generation: only.generation, name: only.generation.rawValue, reason: reason)
    }
    if let declaredBase { return declaredBase }
    if isNarrow {
      return LoRABase(
        generation: nil, name: "LTX-Video 0.9 (2B)",
        reason: "its layers are 2048 wide, as those of that model; LTX-2's are 4096 wide")
    }
    let name = Self.alternatives(possible.isEmpty ? fits : possible)
    let reason =
      possible.isEmpty
      ? "no version has all of its layers: \(fits.map(\.reason).joined(separator: "; "))"
      : possible.count == fits.count
        ? "it changes only layers that all of them have; `checkpoint` checks whether it fits"
        : fits.first { !$0.fits }?.reason ?? ""
    return LoRABase(generation: nil, name: name, reason: reason)
  }

  /// `LTX-2, LTX-2.3 or LTX-2.5`
  private static func alternatives(_ fits: [GenerationFit]) -> String {
    let names = fits.map(\.generation.rawValue)
    guard let last = names.last, names.count > 1 else { return names.joined() }
    return names.dropLast().joined(separator: ", ") + " or " + last
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
        let minor = version.count > 1 ? version[1] : 0
        let generation: ModelGeneration = minor >= 5 ? .ltx25 : minor >= 3 ? .ltx23 : .ltx2
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
  /// names. Layers of several versions have the same shapes, so nothing else would reveal this.
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
    guard try base.generation == nil else { return nil }
    let generation = try checkpoint.generation.rawValue
    let possible = try generationFits().filter(\.fits)
    guard possible.count > 1 else { return nil }
    return "\(path): does not say which model it was trained on, and its layers are those of "
      + "\(Self.alternatives(possible)). "
      + "Make sure that it was trained on \(generation), which \(checkpoint.source.name) is"
  }
}
