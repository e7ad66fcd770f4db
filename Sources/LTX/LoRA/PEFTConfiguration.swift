import Foundation
import NN

/// What peft's configuration says about the scale of adapters: alpha / rank, with exceptions by module.
///
/// diffusers stores it in a file's metadata, for all of its models at once; peft in `adapter_config.json` beside the
/// weights.
struct PEFTConfiguration {
  private let alpha: Double?
  private let alphas: [(pattern: String, alpha: Double)]
  private let usesRankStabilisation: Bool

  /// Above the largest rank that a LoRA can have; a larger alpha is damage.
  private static let maxAlpha = Double(Configuration.maxSize)

  /// - Parameters:
  ///   - prefix: in front of the keys, `transformer.`.
  ///   - hasMagnitudes: whether the file has what DoRA needs.
  /// - Throws: `ConfigurationError` for a value of the wrong type, and for DoRA without magnitudes.
  init(_ c: Configuration, prefix: String = "", hasMagnitudes: Bool) throws {
    func key(_ name: String) -> String { prefix + name }
    guard try hasMagnitudes || !c.bool(key("use_dora"), default: false) else {
      throw c.error(
        key("use_dora"), "is true, but the file has no magnitudes (lora_magnitude_vector), which DoRA needs")
    }
    alpha = c.has(key("lora_alpha")) ? try c.double(key("lora_alpha"), in: 0...Self.maxAlpha) : nil
    usesRankStabilisation = try c.bool(key("use_rslora"), default: false)
    let patterns = try c.object(key("alpha_pattern"), isOptional: true)
    alphas = try patterns.keys.map { pattern in
      // A pattern is a regular expression; what peft and diffusers write are names, at most with a ^ in front.
      let name = pattern.hasPrefix("^") ? pattern.dropFirst() : pattern[...]
      guard name.allSatisfy({ $0.isLetter || $0.isNumber || $0 == "_" || $0 == "." }) else {
        throw patterns.error(pattern, "is a pattern that is not supported; use names of modules")
      }
      return (pattern, try patterns.double(pattern, in: 0...Self.maxAlpha))
    }
  }

  /// What B A of a module is multiplied by; nil where nothing is said.
  func scale(_ name: String, rank: Int) -> Double? {
    let exception = alphas.first { pattern, _ in
      pattern.hasPrefix("^") ? "^\(name)" == pattern : name == pattern || name.hasSuffix(".\(pattern)")
    }
    guard let alpha = exception?.alpha ?? alpha else { return nil }
    return alpha / (usesRankStabilisation ? Double(rank).squareRoot() : Double(rank))
  }
}

/// The scales of a file's adapters that are written outside of its tensors.
struct PEFTConfigurations {
  static let metadataKey = "lora_adapter_metadata"

  private var byPrefix: [(prefix: String, configuration: PEFTConfiguration)] = []

  /// - Throws: `ConfigurationError` for a configuration that can't be read.
  init(file: String, metadata: [String: String], format: LoRAFormat, hasMagnitudes: Bool) throws {
    if let json = metadata[Self.metadataKey] {
      let c = try Configuration(json: json, file: file, path: "__metadata__.\(Self.metadataKey)")
      for prefix in ["transformer.", "connectors.", ""] {
        byPrefix.append((prefix, try PEFTConfiguration(c, prefix: prefix, hasMagnitudes: hasMagnitudes)))
      }
    }
    let beside = URL(fileURLWithPath: file).deletingLastPathComponent().appendingPathComponent(
      "adapter_config.json"
    ).path
    if format == .peft, FileManager.default.fileExists(atPath: beside) {
      let json = try String(contentsOfFile: beside, encoding: .utf8)
      byPrefix.append(
        (
          "base_model.model.",
          try PEFTConfiguration(Configuration(json: json, file: beside), hasMagnitudes: hasMagnitudes)
        ))
    }
  }

  /// - Parameter name: of the module, in the file.
  func scale(_ name: String, rank: Int) -> Double {
    for (prefix, configuration) in byPrefix where name.hasPrefix(prefix) {
      let module = String(name.dropFirst(prefix.count))
      if let scale = configuration.scale(module, rank: rank) { return scale }
    }
    return 1
  }
}
