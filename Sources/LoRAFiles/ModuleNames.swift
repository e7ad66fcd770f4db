import LTX

/// The names of LTX-2's linear layers in LoRA files of all formats.
///
/// A path here is that of a LoRA file in ComfyUI's format: `diffusion_model.` or
/// `text_embedding_projection.`, followed by the module's name in the checkpoint. The list of
/// layers comes from built models.
struct ModuleNames {
  static let transformer = "diffusion_model."
  static let textProjection = "text_embedding_projection."

  /// The layers, with `#` for a block's number.
  let layers: Set<String>
  /// The layers by their names with underscores in place of dots, both ours and diffusers'.
  private let byFlatName: [String: String]

  /// The names of the layers of all versions.
  ///
  /// - Throws: The errors of building a model.
  static var ltx2: ModuleNames { get throws { try all.get() } }

  private static let all = Result {
    ModuleNames(
      try ModelGeneration.allCases.flatMap(\.variants).flatMap { try $0.linearLayers() })
  }

  /// - Parameter checkpointPaths: The paths of linear layers in checkpoints.
  init(_ checkpointPaths: [String]) {
    layers = Set(
      checkpointPaths.map { Self.numberless(LoRAFile.filePath($0), separator: ".").pattern })
    var paths: [String: String] = [:]
    for path in layers {
      var names = [path]
      if path.hasPrefix(Self.transformer) {
        names = [
          String(path.dropFirst(Self.transformer.count)),
          String(Self.diffusers(path).drop { $0 != "." }.dropFirst()),
        ]
      }
      for name in names { paths[name.replacing(".", with: "_")] = path }
    }
    byFlatName = paths
  }

  /// Whether a path is that of a linear layer of the transformer, including the connectors and
  /// their projection.
  func isKnown(_ path: String) -> Bool {
    layers.contains(Self.numberless(path, separator: ".").pattern)
  }

  /// The path for a name with underscores in place of dots, `transformer_blocks_3_attn1_to_out_0`.
  /// The known layers show which underscores were dots. diffusers' names are accepted too.
  ///
  /// - Returns: Nil for a name that isn't one of a linear layer.
  func path(flat: String) -> String? {
    let (pattern, number) = Self.numberless(flat, separator: "_")
    return byFlatName[pattern].map { $0.replacing("#", with: number) }
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

  // MARK: diffusers

  /// Modules that have another name in diffusers. None of these names has a meaning in the other
  /// scheme, so a name in the right scheme stays unchanged.
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
  /// In diffusers the text connectors and the projection before them are a separate model.
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
}
