/// Models that LoRAs are made for, recognized by the names of their modules, so that an error can
/// name the model that a file is for.
enum ModelFamily: String, CaseIterable {
  case chroma = "Chroma"
  case flux2 = "FLUX.2"
  case flux = "FLUX.1"
  case hunyuanVideo = "HunyuanVideo"
  case fluxOrHunyuan = "FLUX.1 or HunyuanVideo"
  case qwenImage = "Qwen-Image"
  case stableDiffusion3 = "Stable Diffusion 3"
  case cosmos = "Cosmos or Anima"
  case wan = "Wan 2.x"
  case zImage = "Z-Image or Lumina 2"
  case hiDream = "HiDream"
  case mochi = "Mochi"
  case kandinsky5 = "Kandinsky 5"
  case aceStep = "ACE-Step"
  case stableDiffusionXL = "Stable Diffusion XL"
  case stableDiffusion = "Stable Diffusion 1.5 or 2"
  case auraFlow = "AuraFlow"
  case languageModel = "a language model"

  /// Parts of module names, with `#` for numbers and `_` for dots and at the start: any one of them
  /// identifies the family.
  private var signs: [String] {
    switch self {
    case .chroma: ["_distilled_guidance_layer_"]
    case .flux2:
      ["double_stream_modulation_", "single_stream_modulation_", "_attn_to_qkv_mlp_proj"]
    case .flux:
      [
        "double_blocks_#_img_mod_lin_", "double_blocks_#_txt_mod_lin_", "double_blocks_#_img_mlp_#",
        "double_blocks_#_txt_mlp_#", "single_blocks_#_modulation_lin_",
        "_time_text_embed_guidance_embedder",
      ]
    case .hunyuanVideo:
      [
        "token_refiner", "double_blocks_#_img_mlp_fc#", "double_blocks_#_txt_mlp_fc#",
        "double_blocks_#_img_mod_linear", "single_blocks_#_modulation_linear",
      ]
    case .fluxOrHunyuan:
      ["double_blocks_#_", "single_blocks_#_linear#", "single_transformer_blocks_#_"]
    case .qwenImage:
      [
        "transformer_blocks_#_img_mlp_", "transformer_blocks_#_txt_mlp_",
        "transformer_blocks_#_img_mod_",
        "transformer_blocks_#_txt_mod_",
      ]
    case .stableDiffusion3:
      ["joint_blocks_#_", "transformer_blocks_#_attn_add_", "_ff_context_net_"]
    case .wan:
      [
        "_blocks_#_self_attn_q", "_blocks_#_self_attn_k", "_blocks_#_self_attn_v",
        "_blocks_#_self_attn_o",
        "_blocks_#_cross_attn_q", "_blocks_#_cross_attn_k", "_blocks_#_cross_attn_v",
        "_blocks_#_cross_attn_o",
        "_blocks_#_ffn_#", "_blocks_#_ffn_net_", "_condition_embedder_",
      ]
    case .cosmos:
      ["_blocks_#_adaln_modulation_", "_blocks_#_self_attn_output_proj", "_llm_adapter_blocks_"]
    case .zImage:
      [
        "_noise_refiner_#_", "_context_refiner_#_", "_layers_#_attention_to_",
        "_layers_#_attention_qkv",
        "_layers_#_attention_out", "_layers_#_adaln_modulation_", "_layers_#_feed_forward_w#",
      ]
    case .hiDream: ["double_stream_blocks_#_", "single_stream_blocks_#_"]
    case .mochi: ["_blocks_#_attn_qkv_x", "_blocks_#_attn_qkv_y", "_attn_proj_x"]
    case .kandinsky5: ["visual_transformer_blocks_#_", "text_transformer_blocks_#_"]
    case .aceStep: ["_genre_embedder", "_lyric_proj", "_speaker_embedder"]
    case .stableDiffusionXL: ["_add_embedding_linear"]
    case .stableDiffusion:
      [
        "_down_blocks_#_", "_up_blocks_#_", "_mid_block_", "_input_blocks_#_", "_output_blocks_#_",
        "_middle_block_#_",
      ]
    case .auraFlow: ["_single_transformer_layers_#_", "_joint_transformer_layers_#_"]
    case .languageModel:
      ["_layers_#_self_attn_q_proj", "_layers_#_self_attn_k_proj", "_layers_#_mlp_gate_proj"]
    }
  }

  /// The family that most of the modules belong to; nil if none is recognized.
  ///
  /// - Parameter modules: Names from a file, with dots or underscores.
  static func recognize(_ modules: some Collection<String>) -> ModelFamily? {
    var found: Set<ModelFamily> = []
    var names: Set<String> = []
    var isXL = false
    for module in modules.prefix(20_000) {
      // Only the larger one of the two has several transformer blocks in one place, and a second
      // text encoder.
      isXL =
        isXL
        || ["lora_te2_", "text_encoder_2", "_transformer_blocks_1_", ".transformer_blocks.1."]
          .contains(where: module.contains)
      let name = numberless(module)
      // Blocks repeat, so each pattern is checked once.
      guard names.insert(name).inserted, names.count <= 2000 else { continue }
      for family in allCases where family.signs.contains(where: name.contains) {
        found.insert(family)
      }
    }
    // The cases are ordered from specific signs to general ones.
    guard let first = allCases.first(where: found.contains) else { return nil }
    return first == .stableDiffusion && isXL ? .stableDiffusionXL : first
  }

  /// `_blocks_#_self_attn_q` for `diffusion_model.blocks.12.self_attn.q`.
  static func numberless(_ module: String) -> String {
    var name = module.lowercased().replacing(".", with: "_")
    let prefixes = [
      "base_model_model_", "model_diffusion_model_", "diffusion_model_", "lora_unet_",
      "lora_transformer_",
      "lycoris_", "transformer_", "unet_", "pipe_dit_", "dit_", "net_", "model_",
    ]
    var isStripped = true
    while isStripped {
      isStripped = false
      // "transformer_blocks" begins with no prefix of its own.
      for prefix in prefixes where name.hasPrefix(prefix) && !name.hasPrefix("transformer_blocks") {
        name = String(name.dropFirst(prefix.count))
        isStripped = true
      }
    }
    var result = "_"
    for part in name.split(separator: "_") as [Substring] {
      let letters: Substring = part.prefix { !$0.isNumber }
      let rest: Substring = part[letters.endIndex...]
      result += rest.isEmpty || !rest.allSatisfy(\.isNumber) ? "\(part)_" : "\(letters)#_"
    }
    return result
  }
}
