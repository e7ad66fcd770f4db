import Foundation
import LTX
import NN
import Support
import TensorFiles

/// peft's description of adapters: the scale of B A, alpha / rank with exceptions by module, and
/// many settings that would change the meaning of the factors. Every setting is applied, known to
/// have no effect on the factors, or rejected by name.
///
/// diffusers stores it in a file's metadata, for all of its models together; peft in
/// `adapter_config.json` beside the weights.
struct PEFTConfiguration {
  private let alpha: Double?
  private let rank: Int?
  private let alphas: [Exception<Double>]
  private let ranks: [Exception<Int>]
  private let usesRankStabilization: Bool
  /// The object that it comes from, for errors.
  private let source: Configuration
  private let prefix: String

  /// A value for the modules that a pattern matches.
  private struct Exception<Value: Equatable> {
    let pattern: ModulePattern
    let value: Value
  }

  /// Above the max rank of a LoRA; a larger alpha means damage.
  private static let maxAlpha = Double(Configuration.maxSize)

  /// - Parameters:
  ///   - prefix: The prefix of the keys, `transformer.`.
  ///   - hasMagnitudes: Whether the file has the magnitudes that DoRA needs.
  /// - Throws: `Issue` for a value of the wrong type, for DoRA without magnitudes, and for a
  ///   setting that gives the factors an unsupported meaning.
  init(_ c: Configuration, prefix: String = "", hasMagnitudes: Bool) throws {
    func key(_ name: String) -> String { prefix + name }
    source = c
    self.prefix = prefix
    try Self.requireSupported(c, prefix: prefix)
    guard try hasMagnitudes || !c.bool(key("use_dora"), default: false) else {
      throw c.error(
        key("use_dora"),
        "is true, but the file has no magnitudes (lora_magnitude_vector), which DoRA needs")
    }
    alpha = c.has(key("lora_alpha")) ? try c.double(key("lora_alpha"), in: 0...Self.maxAlpha) : nil
    rank = c.has(key("r")) ? try c.positive(key("r")) : nil
    usesRankStabilization = try c.bool(key("use_rslora"), default: false)
    func exceptions<Value>(
      _ name: String, _ read: (Configuration, String) throws -> Value
    ) throws -> [Exception<Value>] {
      let patterns = try c.object(key(name), isOptional: true)
      return try patterns.keys.map { pattern in
        guard let compiled = ModulePattern(pattern) else {
          throw patterns.error(
            pattern,
            "is a pattern that is not supported. Use names of modules or simple regular expressions"
          )
        }
        return Exception(pattern: compiled, value: try read(patterns, pattern))
      }
    }
    alphas = try exceptions("alpha_pattern") { try $0.double($1, in: 0...Self.maxAlpha) }
    ranks = try exceptions("rank_pattern") { try $0.positive($1) }
  }

  /// The factor of a module's B A; nil if the description has none.
  ///
  /// - Parameter rank: The rank of its factors.
  /// - Throws: `Issue` for a rank that isn't that of the factors, and for patterns that disagree.
  func scale(_ name: String, rank: Int) throws -> Double? {
    if let stated = try value(of: name, ranks, "rank_pattern") ?? self.rank, stated != rank {
      throw source.error(
        prefix + "r",
        "says rank \(stated) for \(name.displayed()), but the factors have rank \(rank). "
          + "Use the configuration that was saved with this file")
    }
    guard let alpha = try value(of: name, alphas, "alpha_pattern") ?? alpha else { return nil }
    return alpha / (usesRankStabilization ? Double(rank).squareRoot() : Double(rank))
  }

  private func value<Value>(of name: String, _ exceptions: [Exception<Value>], _ key: String) throws
    -> Value?
  {
    let matching = exceptions.filter { $0.pattern.matches(name) }
    guard let first = matching.first else { return nil }
    // peft uses the first one in the order of writing, which JSON objects don't have.
    guard let other = matching.first(where: { $0.value != first.value }) else { return first.value }
    throw source.error(
      prefix + key,
      "has two patterns with different values for \(name.displayed()): \(first.pattern.text.displayed()) and "
        + "\(other.pattern.text.displayed()). Leave one of them")
  }

  // MARK: Settings that are rejected

  /// Settings about the course of training, or the choice of layers, which the keys of the factors
  /// show too.
  private static let withoutEffect: Set<String> = [
    "alpha_pattern", "arrow_config", "auto_mapping", "base_model_name_or_path", "bias",
    "corda_config",
    "ensure_weight_tying", "eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode",
    "init_lora_weights", "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha",
    "lora_bias",
    "lora_dropout", "lora_ga_config", "megatron_config", "megatron_core", "modules_to_save",
    "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern", "revision",
    "runtime_config",
    "target_modules", "task_type", "use_dora", "use_rslora",
  ]
  /// Settings that give the factors another meaning than B A beside a linear layer, unless they are
  /// empty.
  private static let refused: [(key: String, problem: String)] = [
    ("modules_to_save", "lists modules that were fully trained"),
    ("layer_replication", "repeats layers of the base model"),
    ("trainable_token_indices", "names tokens whose embeddings were trained"),
    ("target_parameters", "adapts parameters that are not linear layers"),
    ("alora_invocation_tokens", "switches the adapter on after certain tokens (activated LoRA)"),
    ("arrow_config", "routes between several adapters"),
    ("use_qalora", "pools the inputs of the adapters (QA-LoRA)"),
    ("use_bdlora", "makes the factors block-diagonal"),
    ("megatron_config", "splits layers as Megatron does"),
    ("fan_in_fan_out", "stores weights transposed"),
  ]

  private static func requireSupported(_ c: Configuration, prefix: String) throws {
    func key(_ name: String) -> String { prefix + name }
    let kind = try c.string(key("peft_type"), default: "LORA")
    guard kind.uppercased() == "LORA" else {
      throw c.error(
        key("peft_type"),
        "is \(kind.displayed(limit: 40)), expected LORA. Other adapters are not supported")
    }
    try requireUnchangedBase(c, key("init_lora_weights"))
    let bias = try c.string(key("bias"), default: "none")
    guard bias == "none" else {
      throw c.error(
        key("bias"),
        "is \"\(bias.displayed(limit: 40))\", expected \"none\". Trained biases are not supported")
    }
    for (name, problem) in refused where !isEmpty(c.value(key(name))) {
      throw c.error(key(name), "\(problem), which is not supported")
    }
    for name in c.keys where name.hasPrefix(prefix) {
      let setting = String(name.dropFirst(prefix.count))
      // With several models in one object, names with a dot belong to others.
      guard !setting.contains("."), !withoutEffect.contains(setting), !isEmpty(c.value(name)) else {
        continue
      }
      throw c.error(
        name,
        "is a setting that is not known, so its effect on the adapters is not either. "
          + "Save the adapters as a plain LoRA")
    }
  }

  /// Some initializations move a part of the base weights into the factors, so that B A alone isn't
  /// the trained change.
  private static func requireUnchangedBase(_ c: Configuration, _ key: String) throws {
    switch c.value(key) {
    case nil, .null?, .bool?: return
    case .string(let name)?:
      // These don't change the base. EVA only chooses A, from activations.
      if ["gaussian", "eva", "orthogonal", "true", "false"].contains(name.lowercased()) { return }
      let changing = ["pissa", "olora", "loftq", "corda", "lora_ga"]
      let isKnown = changing.contains { name.lowercased().hasPrefix($0) }
      throw c.error(
        key,
        "is \"\(name.displayed(limit: 40))\", "
          + (isKnown
            ? "which changed the base weights at initialization: the adapters don't fit the published model. "
            : "an initialization that is not known; it may have changed the base weights. ")
          + "Save them as a plain LoRA, with peft's path_initial_model_for_weight_conversion")
    default: throw c.error(key, "must be true, false or the name of an initialization")
    }
  }

  /// Null, false, "", [] and {}.
  private static func isEmpty(_ value: JSON?) -> Bool {
    switch value {
    case nil, .null?, .bool(false)?, .string("")?: true
    case .array(let items)?: items.isEmpty
    case .object(let members)?: members.isEmpty
    default: false
    }
  }
}

/// A regular expression of peft for the names of modules: the full name, or its end after a dot.
///
/// Patterns come from files, and a general one can take forever to match. So groups can't be
/// repeated, and the number of repetitions is limited.
private struct ModulePattern {
  let text: String
  private let expression: NSRegularExpression?

  /// Nil for text that isn't such an expression.
  init?(_ text: String) {
    self.text = text
    if text.allSatisfy({ $0.isLetter || $0.isNumber || $0 == "_" || $0 == "." }) {
      expression = nil
      return
    }
    let allowed = Set(
      #"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-\^$|()[]*+?:"#)
    let repeats = text.count { "*+?".contains($0) }
    guard text.count <= 500, text.allSatisfy(allowed.contains), repeats <= 4,
      ![")*", ")+", ")?"].contains(where: text.contains),
      let expression = try? NSRegularExpression(pattern: "^(?:.*\\.)?(?:\(text))$")
    else { return nil }
    self.expression = expression
  }

  func matches(_ name: String) -> Bool {
    guard let expression else { return name == text || name.hasSuffix(".\(text)") }
    guard name.utf8.count <= 1000 else { return false }
    return expression.firstMatch(in: name, range: NSRange(name.startIndex..., in: name)) != nil
  }
}

/// The scales of a file's adapters that are stored outside of its tensors.
struct PEFTConfigurations {
  static let metadataKey = "lora_adapter_metadata"
  /// The name of the weights beside peft's configuration.
  static let weightsName = "adapter_model.safetensors"
  /// peft doesn't write larger configurations.
  private static let maximumSize = 16 << 20

  private var byPrefix: [(prefix: String, configuration: PEFTConfiguration)] = []

  /// - Throws: `Issue` for a configuration that can't be read, or has unsupported settings.
  ///
  /// - Parameter hasPEFTNames: Whether modules have the names `base_model.model.…`, which only peft
  ///   uses.
  init(file: String, metadata: [String: String], hasPEFTNames: Bool, hasMagnitudes: Bool) throws {
    if let json = metadata[Self.metadataKey] {
      let c = try Configuration(json: json, file: file, path: "__metadata__.\(Self.metadataKey)")
      for prefix in ["transformer.", "connectors.", ""]
      where prefix.isEmpty || c.keys.contains(where: { $0.hasPrefix(prefix) }) {
        byPrefix.append(
          (prefix, try PEFTConfiguration(c, prefix: prefix, hasMagnitudes: hasMagnitudes)))
      }
    }
    let url = URL(fileURLWithPath: file)
    let beside = url.deletingLastPathComponent().appendingPathComponent("adapter_config.json").path
    let isOwn = url.lastPathComponent == Self.weightsName
    guard hasPEFTNames || isOwn, FileManager.default.fileExists(atPath: beside) else { return }
    let c = try Configuration(json: Self.text(of: beside), file: beside)
    let configuration = try PEFTConfiguration(c, hasMagnitudes: hasMagnitudes)
    byPrefix.append(("base_model.model.", configuration))
    if isOwn { byPrefix.append(("", configuration)) }
  }

  private static func text(of path: String) throws -> String {
    func fail(_ problem: String) -> Issue {
      Issue(
        [.file(path), "config"], problem)
    }
    guard let file = FileHandle(forReadingAtPath: path) else {
      throw fail("can't be opened for reading")
    }
    let data: Data
    do {
      data = try file.read(upToCount: maximumSize + 1) ?? Data()
    } catch {
      throw fail("can't be read")
    }
    guard data.count <= maximumSize else {
      throw fail("is larger than \(maximumSize >> 20) MiB, so it is not a configuration of peft")
    }
    guard let text = String(data: data, encoding: .utf8) else { throw fail("is not UTF-8 text") }
    return text
  }

  /// - Parameter name: The name of the module in the file.
  /// - Throws: `Issue` for a rank that isn't that of the factors.
  func scale(_ name: String, rank: Int) throws -> Double {
    for (prefix, configuration) in byPrefix where name.hasPrefix(prefix) {
      let module = String(name.dropFirst(prefix.count))
      if let scale = try configuration.scale(module, rank: rank) { return scale }
    }
    return 1
  }
}
