import Foundation
import NN
import Support
import TensorFiles

/// Checkpoints that are given as one file, in any layout: all components, one component under its
/// own names, or a transformer without a configuration, as upstream's full fine-tuning saves it.
extension Checkpoint {
  /// Opens the base of LoRAs like `init(path:)`, and also a transformer whose metadata lack the
  /// configuration. Its sizes are inferred from the shapes of its tensors, which is enough to
  /// inspect it and to change its weights, but not to run it.
  ///
  /// - Throws: the errors of `init(path:)`.
  public init(ofAnyLayout path: String) throws {
    let source = try openTensors(at: path)
    guard source.metadata["config"] == nil, let config = Self.inferredConfiguration(source) else {
      self = try Checkpoint(path: path)
      return
    }
    let named = try DescribedTensors.describing(
      Self.named(source, as: Self.transformerNames(source.entries.keys)))
    self.init(files: ModelFiles(unified: path), source: named, config: config)
    isInferred = true
  }

  /// The file's tensors under their names in the unified layout; others keep their names.
  static func named(
    _ source: any TensorSource, as rename: @escaping @Sendable (String) -> String?
  ) throws -> any TensorSource {
    if let described = source as? DescribedTensors {
      return try DescribedTensors.describing(named(described.base, as: rename))
    }
    guard source.entries.keys.contains(where: { (rename($0) ?? $0) != $0 }) else { return source }
    return CombinedTensors(
      name: source.name, metadata: source.metadata,
      parts: [CombinedTensors.Part(source) { rename($0) ?? $0 }])
  }

  /// The unified names of a transformer's tensors, regardless of their prefix in the file.
  static func transformerNames(_ keys: some Sequence<String>) -> @Sendable (String) -> String? {
    let scope = Prefix.transformer + "."
    let mark = "transformer_blocks.0."
    let prefixes = ["", "diffusion_model.", "transformer.", "module."]
    guard
      let prefix = prefixes.first(where: { prefix in keys.contains { $0.hasPrefix(prefix + mark) } }
      )
    else { return { _ in nil } }
    return { key in
      let others = [scope] + ModelFiles.Component.allCases.flatMap(\.prefixes)
      if others.contains(where: key.hasPrefix) { return key }
      return key.hasPrefix(prefix) ? scope + key.dropFirst(prefix.count) : nil
    }
  }

  /// The configuration that the shapes of a transformer's tensors imply; nil for any other file.
  private static func inferredConfiguration(_ source: any TensorSource) -> Configuration? {
    let rename = transformerNames(source.entries.keys)
    var shapes: [String: [Int]] = [:]
    let scope = Prefix.transformer + "."
    for (key, entry) in source.entries {
      let name = rename(key) ?? key
      if name.hasPrefix(scope) { shapes[String(name.dropFirst(scope.count))] = entry.shape }
    }
    let blocks = shapes.keys.compactMap { key -> Int? in
      let parts = key.split(separator: ".", maxSplits: 2)
      return parts.count > 2 && parts[0] == "transformer_blocks" ? Int(parts[1]) : nil
    }
    guard let last = blocks.max(), last < 10_000 else { return nil }
    let isGated = shapes.keys.contains { $0.hasSuffix(".to_gate_logits.weight") }
    var values: JSONObject = [
      "num_layers": JSON(last + 1), "apply_gated_attention": .bool(isGated),
      "cross_attention_adaln": .bool(
        shapes.keys.contains {
          $0.contains("prompt_adaln_single.") || $0.contains("prompt_scale_shift_table")
        }),
    ]
    var isTransformer = false
    for prefix in ["", "audio_"] {
      guard let into = shapes["\(prefix)patchify_proj.weight"], into.count == 2,
        let out = shapes["\(prefix)proj_out.weight"], out.count == 2
      else { continue }
      isTransformer = true
      let width = into[0]
      let block = "transformer_blocks.0.\(prefix)"
      let usualWidth = prefix.isEmpty ? 128 : 64
      let heads =
        shapes["\(block)attn1.to_gate_logits.weight"]?.first
        ?? (width.isMultiple(of: usualWidth) && width > 0 ? width / usualWidth : 1)
      guard heads > 0 else { return nil }
      values["\(prefix)in_channels"] = JSON(into[1])
      values["\(prefix)out_channels"] = JSON(out[0])
      values["\(prefix)num_attention_heads"] = JSON(heads)
      values["\(prefix)attention_head_dim"] = JSON(width / heads)
      if let context = shapes["\(block)attn2.to_k.weight"], context.count == 2 {
        values["\(prefix)cross_attention_dim"] = JSON(context[1])
      }
      values["\(prefix)ff_bias"] = .bool(shapes["\(block)ff.net.2.bias"] != nil)
    }
    values["use_prompt_adaln_single"] = .bool(
      shapes.keys.contains { $0.contains("prompt_adaln_single.") })
    values["use_keyframes_abs_pos_embedding"] = .bool(
      shapes["keyframes_abs_pos_embedding"] != nil)
    guard isTransformer else { return nil }
    if let caption = shapes["caption_projection.linear_1.weight"], caption.count == 2 {
      values["caption_channels"] = JSON(caption[1])
    } else {
      values["caption_proj_before_connector"] = .bool(true)
    }
    return Configuration(values: ["transformer": .object(values)], file: source.name)
  }
}
