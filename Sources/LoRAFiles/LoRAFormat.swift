import NN

/// The naming scheme of a LoRA file.
public enum LoRAFormat: String, Sendable, CaseIterable, Codable {
  /// `diffusion_model.<module>.lora_A.weight`, the format of LTX-2's trainers and ComfyUI.
  case comfyUI = "comfyui"
  /// `transformer.<module>.lora_A.weight` with diffusers' own names of modules.
  case diffusers
  /// `lora_unet_<module with underscores>.lora_down.weight`.
  case kohya
  /// `base_model.model.<module>.lora_A.weight`, or only the module's name as prefix.
  case peft

  public var title: String {
    switch self {
    case .comfyUI: "ComfyUI / LTX-2"
    case .diffusers: "diffusers"
    case .kohya: "kohya"
    case .peft: "peft"
    }
  }

  /// The naming scheme of an adapter's tensors after the module's name.
  var naming: AdapterNaming {
    switch self {
    case .comfyUI: .comfyUI
    case .kohya: .kohya
    case .diffusers, .peft: .peft
    }
  }

  /// The name that this format gives a module.
  ///
  /// - Parameter path: the module in ComfyUI's format.
  /// - Returns: nil for a module that the format has no name for.
  func name(of path: String, _ names: ModuleNames) -> String? {
    switch self {
    case .comfyUI: return path
    case .peft: return "base_model.model.\(path)"
    case .diffusers:
      let name = ModuleNames.diffusers(path)
      return ModuleNames.path(diffusers: name) == path ? name : nil
    case .kohya:
      guard path.hasPrefix(ModuleNames.transformer) else { return nil }
      let flat = String(path.dropFirst(ModuleNames.transformer.count)).replacing(".", with: "_")
      return names.path(flat: flat) == path ? "lora_unet_\(flat)" : nil
    }
  }

  /// The module that a name in a file stands for, and the format that the name belongs to.
  ///
  /// - Returns: nil for a name that can't be one of LTX-2's.
  static func module(_ name: String, _ names: ModuleNames) -> (path: String, format: LoRAFormat)? {
    for prefix in ["lora_unet_", "lora_transformer_", "lycoris_"] where name.hasPrefix(prefix) {
      return names.path(flat: String(name.dropFirst(prefix.count))).map { ($0, .kohya) }
    }
    let isPEFT = name.hasPrefix("base_model.model.")
    var rest = isPEFT ? String(name.dropFirst("base_model.model.".count)) : name
    if rest.hasPrefix("model.diffusion_model.") { rest = String(rest.dropFirst("model.".count)) }
    if rest.hasPrefix(ModuleNames.transformer) {
      let module = String(rest.dropFirst(ModuleNames.transformer.count))
      // Some trainers put this prefix in front of the projection too, which is beside the
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
    // Without a prefix, only a known layer shows that the adapter is for LTX-2.
    let path = ModuleNames.path(diffusers: rest)
    return names.isKnown(path) ? (path, .peft) : nil
  }
}
