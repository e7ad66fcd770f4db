/// The names that other software gives to LTX-2's linear layers.
///
/// A path here is that of a LoRA file in ComfyUI's format: `diffusion_model.` or
/// `text_embedding_projection.`, and then the module's name in the checkpoint.
enum ModuleNames {
  static let transformer = "diffusion_model."
  static let textProjection = "text_embedding_projection."

  // MARK: diffusers

  /// Modules that diffusers calls otherwise. None of these names means anything in the other
  /// system, so that a name that is in the right system already stays as it is.
  private static let diffusersTransformer = [
    "patchify_proj": "proj_in",
    "audio_patchify_proj": "audio_proj_in",
    "adaln_single": "time_embed",
    "audio_adaln_single": "audio_time_embed",
    "prompt_adaln_single": "prompt_adaln",
    "audio_prompt_adaln_single": "audio_prompt_adaln",
    "av_ca_video_scale_shift_adaln_single": "av_cross_attn_video_scale_shift",
    "av_ca_audio_scale_shift_adaln_single": "av_cross_attn_audio_scale_shift",
    "av_ca_a2v_gate_adaln_single": "av_cross_attn_video_a2v_gate",
    "av_ca_v2a_gate_adaln_single": "av_cross_attn_audio_v2a_gate",
  ]
  /// In diffusers the text connectors and the projection before them are a model of their own.
  private static let diffusersConnectors = [
    "video_embeddings_connector": "video_connector",
    "audio_embeddings_connector": "audio_connector",
  ]
  private static let diffusersTextProjection = [
    "aggregate_embed": "text_proj_in",
    "video_aggregate_embed": "video_text_proj_in",
    "audio_aggregate_embed": "audio_text_proj_in",
  ]
  private static let fromDiffusersTransformer = inverse(diffusersTransformer)
  private static let fromDiffusersConnectors = inverse(diffusersConnectors)
  private static let fromDiffusersTextProjection = inverse(diffusersTextProjection)

  private static func inverse(_ names: [String: String]) -> [String: String] {
    Dictionary(uniqueKeysWithValues: names.map { ($1, $0) })
  }

  /// `transformer.…` or `connectors.…` for a path.
  static func diffusers(_ path: String) -> String {
    if path.hasPrefix(textProjection) {
      return "connectors." + renamed(path.dropFirst(textProjection.count), diffusersTextProjection)
    }
    let rest = path.hasPrefix(transformer) ? path.dropFirst(transformer.count) : path[...]
    if let connector = diffusersConnectors[first(rest)] {
      return "connectors.\(connector)\(rest.dropFirst(first(rest).count))"
        .replacing(".transformer_1d_blocks.", with: ".transformer_blocks.")
    }
    return "transformer." + renamed(rest, diffusersTransformer)
  }

  /// The path for `transformer.…` or `connectors.…`.
  static func path(diffusers name: String) -> String {
    if name.hasPrefix("connectors.") {
      let rest = name.dropFirst("connectors.".count)
      if let connector = fromDiffusersConnectors[first(rest)] {
        return "\(transformer)\(connector)\(rest.dropFirst(first(rest).count))"
          .replacing(".transformer_blocks.", with: ".transformer_1d_blocks.")
      }
      return textProjection + renamed(rest, fromDiffusersTextProjection)
    }
    let rest = name.hasPrefix("transformer.") ? name.dropFirst("transformer.".count) : name[...]
    return transformer + renamed(rest, fromDiffusersTransformer)
  }

  private static func first(_ name: Substring) -> String { String(name.prefix { $0 != "." }) }

  private static func renamed(_ name: Substring, _ names: [String: String]) -> String {
    let first = first(name)
    return (names[first] ?? first) + name.dropFirst(first.count)
  }

  // MARK: kohya

  /// The path for a name whose dots have become underscores, `transformer_blocks_3_attn1_to_out_0`:
  /// underscores that were dots are told from those that were not by the layers that there are.
  /// Names that diffusers gives are understood as well.
  ///
  /// - Returns: nil for what is no linear layer of the transformer.
  static func path(flat: String) -> String? {
    let (pattern, number) = numberless(flat, separator: "_")
    return byFlatName[pattern].map { $0.replacing("#", with: number) }
  }

  /// Whether a path is that of a linear layer of the transformer, the connectors and their
  /// projection included.
  static func isKnown(_ path: String) -> Bool {
    guard path.hasPrefix(transformer) else {
      return path.hasPrefix(textProjection)
        && diffusersTextProjection[String(path.dropFirst(textProjection.count))] != nil
    }
    let (pattern, _) = numberless(String(path.dropFirst(transformer.count)), separator: ".")
    return known.contains(pattern)
  }

  /// The name with a block's number as `#`, and the number.
  private static func numberless(_ name: String, separator: Character) -> (
    pattern: String, number: String
  ) {
    var parts = name.split(separator: separator, omittingEmptySubsequences: false)
    guard
      let index = parts.indices.dropFirst().first(where: {
        parts[$0 - 1].hasSuffix("blocks") && !parts[$0].isEmpty
          && parts[$0].allSatisfy(\.isWholeNumber)
      })
    else { return (name, "") }
    let number = String(parts[index])
    parts[index] = "#"
    return (parts.joined(separator: String(separator)), number)
  }

  /// Every linear layer, below the transformer, with `#` for a block's number.
  static let linearLayers: [String] = {
    let attention = ["to_q", "to_k", "to_v", "to_out.0", "to_gate_logits"]
    let feedForward = ["net.0.proj", "net.2"]
    let embedder = ["linear", "emb.timestep_embedder.linear_1", "emb.timestep_embedder.linear_2"]
    var layers: [String] = []
    for stream in ["", "audio_"] {
      layers += ["\(stream)patchify_proj", "\(stream)proj_out"]
      layers += ["linear_1", "linear_2"].map { "\(stream)caption_projection.\($0)" }
      for norm in ["adaln_single", "prompt_adaln_single"] {
        layers += embedder.map { "\(stream)\(norm).\($0)" }
      }
      for name in ["attn1", "attn2"] {
        layers += attention.map { "transformer_blocks.#.\(stream)\(name).\($0)" }
      }
      layers += feedForward.map { "transformer_blocks.#.\(stream)ff.\($0)" }
    }
    for norm in ["video_scale_shift", "audio_scale_shift", "a2v_gate", "v2a_gate"] {
      layers += embedder.map { "av_ca_\(norm)_adaln_single.\($0)" }
    }
    for name in ["audio_to_video_attn", "video_to_audio_attn"] {
      layers += attention.map { "transformer_blocks.#.\(name).\($0)" }
    }
    for connector in ["video_embeddings_connector", "audio_embeddings_connector"] {
      layers += attention.map { "\(connector).transformer_1d_blocks.#.attn1.\($0)" }
      layers += feedForward.map { "\(connector).transformer_1d_blocks.#.ff.\($0)" }
    }
    return layers
  }()

  private static let known = Set(linearLayers)

  private static let byFlatName: [String: String] = {
    var paths: [String: String] = [:]
    for layer in linearLayers {
      let path = transformer + layer
      let other = diffusers(path)
      for name in [layer, String(other.drop { $0 != "." }.dropFirst())] {
        paths[name.replacing(".", with: "_")] = path
      }
    }
    for name in diffusersTextProjection.keys {
      let path = textProjection + name
      paths[path.replacing(".", with: "_")] = path
    }
    return paths
  }()
}
