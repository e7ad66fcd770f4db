import NN

/// The meaning of a key of a LoRA file.
enum LoRAKey: Sendable {
  /// A tensor of an adapter for a layer.
  ///
  /// - name: the module in the file; path: the same in ComfyUI's format; isKnown: whether LTX-2 has
  ///   such a layer.
  case tensor(role: String, name: String, path: String, format: LoRAFormat, isKnown: Bool)
  /// A change of a bias.
  case bias
  /// A tensor for another model beside the transformer, "text encoder" or "VAE".
  case other(component: String, name: String)
  /// A tensor for a module that LTX-2 doesn't have.
  case foreign(name: String)
  /// A tensor that can't be used, with the reason, to be read after the key.
  case problem(String)

  init(_ key: String, _ names: ModuleNames) {
    if let problem = Self.unsupported(key) {
      self = .problem(problem)
    } else if Self.biasSuffixes.contains(where: key.hasSuffix) {
      self = .bias
    } else if let (name, role) = AdapterKinds.role(ofKey: key) {
      if let component = Self.otherComponent(name) {
        self = .other(component: component, name: name)
      } else if let (path, format) = LoRAFormat.module(name, names) {
        self = .tensor(
          role: role, name: name, path: path, format: format, isKnown: names.isKnown(path))
      } else {
        self = .foreign(name: name)
      }
    } else {
      self = .problem("does not belong to a LoRA")
    }
  }

  // MARK: Unsupported tensors

  private static func unsupported(_ key: String) -> String? {
    let supported = AdapterKinds.all.map(\.title)
    let parts = key.split(separator: ".", omittingEmptySubsequences: false).dropFirst()
    let kind = otherKinds.first { start, _ in parts.contains { $0.hasPrefix(start) } }?.1
    if let kind = kind ?? (gloraSuffixes.contains(where: key.hasSuffix) ? "GLoRA" : nil) {
      return "belongs to \(kind), which is not supported (expected \(supported.spoken))"
    }
    return unsupportedSuffixes.first { key.hasSuffix($0.0) }.map {
      "is \($0.1), which is not supported (expected a tensor of \(supported.spoken))"
    }
  }

  /// Other kinds of adapters, by the beginning of the key's part after the module's name.
  private static let otherKinds = [
    ("lokr_t1", "LoKr with a Tucker core"), ("lokr_t2", "LoKr with a Tucker core"),
    ("hada_t1", "LoHa with a Tucker core"), ("hada_t2", "LoHa with a Tucker core"),
    ("lora_mid", "LoCon with a Tucker core"), ("oft_", "OFT"),
    ("boft_", "BOFT"), ("vera_", "VeRA"), ("glora", "GLoRA"), ("ia3_", "IA3"), ("on_input", "IA3"),
    ("lora_E", "AdaLoRA"), ("ranknum", "AdaLoRA"), ("lora_embedding_", "LoRA of an embedding"),
    ("fourierft_", "FourierFT"), ("waveft_", "WaveFT"), ("hra_", "HRA"), ("randlora_", "RandLoRA"),
    ("vblora_", "VB-LoRA"), ("shira_", "SHiRA"), ("bone_", "Bone"), ("miss_", "MiSS"),
    ("c3a_", "C3A"), ("road_", "RoAd"), ("delora_", "DeLoRA"), ("gralora_", "GraLoRA"),
    ("trainable_tokens_", "trainable tokens"), ("w_norm", "a changed normalization layer"),
    ("b_norm", "a changed normalization layer"),
  ]
  /// GLoRA's four matrices.
  private static let gloraSuffixes = [".a1.weight", ".a2.weight", ".b1.weight", ".b2.weight"]
  private static let unsupportedSuffixes = [
    (".diff", "a full weight difference"), (".set_weight", "a full weight"),
    (".b_diff", "a full difference"),
    (".reshape_weight", "a weight of another shape"), (".scalar", "a scalar of LyCORIS"),
  ]
  /// Changes of biases, which ltx-core skips too.
  private static let biasSuffixes = [
    ".lora_B.bias", ".lora_A.bias", ".lora_B.default.bias", ".lora_up.bias", ".lora.up.bias",
    ".diff_b",
  ]

  // MARK: Other models

  private static let componentPrefixes = [
    ("text_encoder", "text encoder"), ("lora_te", "text encoder"), ("te.", "text encoder"),
    ("te1.", "text encoder"), ("te2.", "text encoder"), ("te1_", "text encoder"),
    ("te2_", "text encoder"), ("cond_stage_model.", "text encoder"),
    ("conditioner.", "text encoder"), ("text_model.", "text encoder"),
    ("gemma", "text encoder"), ("language_model.", "text encoder"),
    ("model.language_model.", "text encoder"), ("model.layers.", "text encoder"),
    ("model.text_model.", "text encoder"), ("vae.", "VAE"), ("video_vae.", "VAE"),
    ("audio_vae.", "VAE"), ("first_stage_model.", "VAE"), ("lora_vae", "VAE"),
    ("vocoder.", "vocoder"),
  ]

  /// The model beside the transformer that a module's name belongs to; nil for the transformer, its
  /// connectors and their projection.
  private static func otherComponent(_ name: String) -> String? {
    let isPEFT = name.hasPrefix("base_model.model.")
    let rest = isPEFT ? name.dropFirst("base_model.model.".count) : name[...]
    return componentPrefixes.first { rest.hasPrefix($0.0) }?.1
  }
}

extension [String] {
  /// `LoRA, DoRA or LoKr`
  fileprivate var spoken: String {
    count < 2 ? joined() : dropLast().joined(separator: ", ") + " or " + self[count - 1]
  }
}

/// The keys of a file that are not tensors of adapters for LTX-2's layers.
struct UnreadKeys {
  var biases: [String] = []
  var problems: [(key: String, problem: String)] = []
  var others: [String: Set<String>] = [:]
  var foreign: [(key: String, name: String)] = []
  /// Modules with a prefix of LTX-2's and an unknown name. A checkpoint may have them.
  var unknown: Set<String> = []

  /// The reason why the file can't be used; nil for a file that can.
  ///
  /// - Parameter modules: the number of adapters for LTX-2, including unknown ones.
  func refusal(file: String, modules: Int) -> WeightError? {
    func fail(_ key: String, _ problem: String) -> WeightError {
      WeightError(file: file, key: key, problem: problem)
    }
    let strangers = Set(foreign.map(\.name)).union(unknown)
    let usable = modules - unknown.count
    // Next to layers of LTX-2, only modules that it doesn't have point to another model.
    let names =
      usable > 0 ? strangers : strangers.union(others.values.joined()).union(problems.map(\.key))
    if let family = ModelFamily.recognize(names), let first = strangers.min() ?? names.min() {
      let part = usable == 0 ? "" : " (\(usable) other adapters are for LTX-2)"
      let key = foreign.first { $0.name == first }?.key ?? first
      return fail(
        key, "belongs to \(family.rawValue): the LoRA was made for that model, not for LTX-2\(part)"
      )
    }
    if let (key, problem) = problems.first {
      let count =
        problems.count == 1 ? "" : " (\(problems.count) keys of the file have such problems)"
      return fail(key, problem + count)
    }
    if let (key, name) = foreign.first {
      let count = Set(foreign.map(\.name)).count
      return fail(
        key,
        "belongs to \(name.displayed()), which is not a layer of LTX-2; the LoRA was made for "
          + "another model (\(count) of \(count + modules) modules are not LTX-2's)")
    }
    if modules == 0, let (component, names) = others.min(by: { $0.key < $1.key }),
      let first = names.min()
    {
      return fail(
        first,
        "belongs to a \(component): the file has adapters of the "
          + "\(others.keys.sorted().joined(separator: " and ")) only, and LoRAs act on the "
          + "transformer")
    }
    return nil
  }
}
