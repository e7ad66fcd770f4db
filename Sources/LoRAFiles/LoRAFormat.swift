import Torch

/// How a LoRA file names its tensors.
public enum LoRAFormat: String, Sendable, CaseIterable, Codable {
  /// `diffusion_model.<module>.lora_A.weight`, as LTX-2's trainers and ComfyUI write it.
  case comfyUI = "comfyui"
  /// `transformer.<module>.lora_A.weight` with diffusers' own names of modules.
  case diffusers
  /// `lora_unet_<module with underscores>.lora_down.weight`.
  case kohya
  /// `base_model.model.<module>.lora_A.weight`, or the module's name alone in front.
  case peft

  public var title: String {
    switch self {
    case .comfyUI: "ComfyUI / LTX-2"
    case .diffusers: "diffusers"
    case .kohya: "kohya"
    case .peft: "peft"
    }
  }

  /// The part of an adapter that a tensor is.
  enum Factor: Sendable { case down, up, alpha, magnitude }

  private static let factors: [(suffix: String, factor: Factor)] = [
    (".lora_A.weight", .down), (".lora_B.weight", .up),
    (".lora_A.default.weight", .down), (".lora_B.default.weight", .up),
    (".lora_down.weight", .down), (".lora_up.weight", .up),
    (".lora.down.weight", .down), (".lora.up.weight", .up),
    (".alpha", .alpha),
    // DoRA's, as ComfyUI and kohya call it, and peft.
    (".dora_scale", .magnitude), (".lora_magnitude_vector", .magnitude),
    (".lora_magnitude_vector.weight", .magnitude), (".lora_magnitude_vector.default", .magnitude),
    (".lora_magnitude_vector.default.weight", .magnitude),
  ]

  /// Other kinds of adapters, by how the part of the key after the module's name begins.
  private static let otherKinds = [
    ("lokr_", "LoKr"), ("hada_", "LoHa"), ("lora_mid", "LoCon with a Tucker core"), ("oft_", "OFT"),
    ("boft_", "BOFT"), ("vera_", "VeRA"), ("glora", "GLoRA"), ("ia3_", "IA3"), ("on_input", "IA3"),
    ("lora_E", "AdaLoRA"), ("ranknum", "AdaLoRA"), ("lora_embedding_", "LoRA of an embedding"),
    ("fourierft_", "FourierFT"), ("waveft_", "WaveFT"), ("hra_", "HRA"), ("randlora_", "RandLoRA"),
    ("vblora_", "VB-LoRA"), ("shira_", "SHiRA"), ("bone_", "Bone"), ("miss_", "MiSS"),
    ("c3a_", "C3A"),
    ("road_", "RoAd"), ("delora_", "DeLoRA"), ("gralora_", "GraLoRA"),
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
  /// Changes of biases, which ltx-core leaves out too.
  private static let biasSuffixes = [
    ".lora_B.bias", ".lora_A.bias", ".lora_B.default.bias", ".lora_up.bias", ".lora.up.bias",
    ".diff_b",
  ]

  /// What a key of a LoRA file is.
  enum Key: Sendable {
    /// - name: of the module in the file; path: of the same in ComfyUI's format; isKnown: whether
    ///   LTX-2 has such a layer.
    case factor(Factor, name: String, path: String, format: LoRAFormat, isKnown: Bool)
    /// A change of a bias.
    case bias
    /// A factor for another model beside the transformer, "text encoder" or "VAE".
    case other(component: String, name: String)
    /// A factor for a module that LTX-2 does not have.
    case foreign(name: String)
    /// Something that can't be used, and why, to be read after the key.
    case problem(String)
  }

  static func read(_ key: String) -> Key {
    let parts = key.split(separator: ".", omittingEmptySubsequences: false).dropFirst()
    let kind = otherKinds.first { start, _ in parts.contains { $0.hasPrefix(start) } }?.1
    if let kind = kind ?? (gloraSuffixes.contains(where: key.hasSuffix) ? "GLoRA" : nil) {
      return .problem("belongs to \(kind), which is not supported; only LoRA and DoRA are")
    }
    if let (_, kind) = unsupportedSuffixes.first(where: { key.hasSuffix($0.0) }) {
      return .problem("is \(kind), which is not supported; only LoRA is, with its factors A and B")
    }
    if biasSuffixes.contains(where: key.hasSuffix) { return .bias }
    guard let (suffix, factor) = factors.first(where: { key.hasSuffix($0.suffix) }) else {
      return .problem("does not belong to a LoRA")
    }
    let name = String(key.dropLast(suffix.count))
    if let component = otherComponent(name) { return .other(component: component, name: name) }
    guard let (path, format) = module(name) else { return .foreign(name: name) }
    return .factor(
      factor, name: name, path: path, format: format, isKnown: ModuleNames.isKnown(path))
  }

  private static func module(_ name: String) -> (path: String, format: LoRAFormat)? {
    for prefix in ["lora_unet_", "lora_transformer_", "lycoris_"] where name.hasPrefix(prefix) {
      return ModuleNames.path(flat: String(name.dropFirst(prefix.count))).map { ($0, .kohya) }
    }
    let isPEFT = name.hasPrefix("base_model.model.")
    var rest = isPEFT ? String(name.dropFirst("base_model.model.".count)) : name
    if rest.hasPrefix("model.diffusion_model.") { rest = String(rest.dropFirst("model.".count)) }
    if rest.hasPrefix(ModuleNames.transformer) {
      let module = String(rest.dropFirst(ModuleNames.transformer.count))
      // Some trainers put this prefix in front of the projection, too, which lies beside the
      // transformer.
      let path =
        module.hasPrefix(ModuleNames.textProjection)
        ? module : ModuleNames.path(diffusers: "transformer." + module)
      return (path, isPEFT ? .peft : .comfyUI)
    }
    if rest.hasPrefix(ModuleNames.textProjection) { return (rest, isPEFT ? .peft : .comfyUI) }
    if rest.hasPrefix("transformer.") || rest.hasPrefix("connectors.") {
      return (ModuleNames.path(diffusers: rest), isPEFT ? .peft : .diffusers)
    }
    // Without a prefix, only a layer's own name tells what the adapter is for.
    let path = ModuleNames.path(diffusers: rest)
    return ModuleNames.isKnown(path) ? (path, .peft) : nil
  }

  private static let componentPrefixes = [
    ("text_encoder", "text encoder"), ("lora_te", "text encoder"), ("te.", "text encoder"),
    ("te1.", "text encoder"), ("te2.", "text encoder"), ("te1_", "text encoder"),
    ("te2_", "text encoder"),
    ("cond_stage_model.", "text encoder"), ("conditioner.", "text encoder"),
    ("text_model.", "text encoder"),
    ("gemma", "text encoder"), ("language_model.", "text encoder"),
    ("model.language_model.", "text encoder"),
    ("model.layers.", "text encoder"), ("model.text_model.", "text encoder"), ("vae.", "VAE"),
    ("video_vae.", "VAE"), ("audio_vae.", "VAE"), ("first_stage_model.", "VAE"),
    ("lora_vae", "VAE"),
    ("vocoder.", "vocoder"),
  ]

  /// The model beside the transformer that a module's name belongs to; nil for the transformer, its
  /// connectors and their projection.
  private static func otherComponent(_ name: String) -> String? {
    let isPEFT = name.hasPrefix("base_model.model.")
    let rest = isPEFT ? name.dropFirst("base_model.model.".count) : name[...]
    return componentPrefixes.first { rest.hasPrefix($0.0) }?.1
  }

  /// The keys of a module's tensors in this format; alpha only where its readers expect one.
  ///
  /// - Returns: nil for a module that the format has no name for.
  func keys(_ path: String) -> Keys? {
    switch self {
    case .comfyUI:
      return Keys(
        down: "\(path).lora_A.weight", up: "\(path).lora_B.weight", magnitude: "\(path).dora_scale")
    case .peft: return Keys(peft: "base_model.model.\(path)")
    case .diffusers:
      let name = ModuleNames.diffusers(path)
      guard ModuleNames.path(diffusers: name) == path else { return nil }
      return Keys(peft: name)
    case .kohya:
      guard path.hasPrefix(ModuleNames.transformer) else { return nil }
      let flat = String(path.dropFirst(ModuleNames.transformer.count)).replacing(".", with: "_")
      guard ModuleNames.path(flat: flat) == path else { return nil }
      let name = "lora_unet_\(flat)"
      return Keys(
        down: "\(name).lora_down.weight", up: "\(name).lora_up.weight", alpha: "\(name).alpha",
        magnitude: "\(name).dora_scale")
    }
  }

  /// Under which keys a format has the tensors of a module.
  struct Keys {
    let down: String
    let up: String
    /// Only where readers expect one.
    var alpha: String?
    /// Of DoRA.
    let magnitude: String
    /// Whether magnitudes are [outputs, 1], not [outputs].
    var isColumn = true

    init(down: String, up: String, alpha: String? = nil, magnitude: String) {
      self.down = down
      self.up = up
      self.alpha = alpha
      self.magnitude = magnitude
    }

    init(peft name: String) {
      self.init(
        down: "\(name).lora_A.weight", up: "\(name).lora_B.weight",
        magnitude: "\(name).lora_magnitude_vector"
      )
      isColumn = false
    }

    /// A magnitude [outputs] in the format's shape.
    func magnitude(_ vector: Tensor) throws -> Tensor {
      try isColumn ? vector.reshape([-1, 1]) : vector
    }
  }
}
