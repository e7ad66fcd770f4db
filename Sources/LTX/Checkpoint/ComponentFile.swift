import Foundation
import NN
import Support
import TensorFiles

/// A file that holds a model or one of its components, with its metadata.
struct ComponentFile {
  let source: any TensorSource
  let config: Configuration

  init(path: String) throws {
    source = try DescribedTensors.describing(openTensors(at: path))
    guard let json = source.metadata["config"] else {
      if let error = source.unsupportedFormatError(anywhereBelow: "") { throw error }
      throw Issue(
        [.file(path), "__metadata__.config"],
        "is missing: this is not an LTX-2 checkpoint in the unified layout or one of its "
          + "components, whose metadata "
          + "describes their contents; files of diffusers have other keys and must be converted")
    }
    config = try Configuration(json: json, file: path)
  }

  var metadata: [String: String] { source.metadata }

  /// Whether the file holds more than a transformer.
  var isUnified: Bool {
    ModelFiles.Component.allCases.flatMap(\.configurationKeys).contains {
      $0 != "transformer" && config.has($0)
    }
  }

  /// The unified names of the tensors of a file that is used as the complete checkpoint; nil for a
  /// name that stays unchanged.
  var unifiedNames: @Sendable (String) -> String? {
    guard ModelFiles.Component.allCases.flatMap(\.configurationKeys).contains(where: config.has)
    else {
      return { _ in nil }
    }
    let single = ModelFiles.Component.allCases.filter {
      $0.configurationKeys.contains(where: config.has)
    }
    guard single.count == 1, let component = single.first, component != .transformer else {
      return Checkpoint.transformerNames(source.entries.keys)
    }
    return keys(of: component)
  }

  /// The configuration without the components.
  var sharedConfig: Configuration {
    ModelFiles.Component.allCases.flatMap(\.configurationKeys).reduce(config) {
      $0.replacing($1, by: nil)
    }
  }

  /// A component's configuration, which must be in its own file.
  func part(_ key: String, of component: ModelFiles.Component) throws -> Configuration {
    guard config.has(key) else {
      throw config.error(
        key, "is missing, but this file is given as the one of the \(component.title)")
    }
    return try config.object(key)
  }

  /// The unified layout's name for a key of a component's file; nil for tensors of another
  /// component. Files of one component have either the unified names, or, for some components, the
  /// component's own without its prefix.
  func keys(of component: ModelFiles.Component) -> @Sendable (String) -> String? {
    let kept = component.prefixes
    guard let bare = component.omittedPrefix else {
      return { key in kept.contains(where: key.hasPrefix) ? key : nil }
    }
    // ComfyUI omits "model." when it saves a model, and others write the component's name.
    let other =
      component == .transformer
      ? ["diffusion_model.", "transformer."].first { prefix in
        source.entries.keys.contains { $0.hasPrefix(prefix) }
      } : nil
    let hasPrefix = source.entries.keys.contains { $0.hasPrefix(bare) }
    let prefixes = ModelFiles.Component.allCases.flatMap(\.prefixes)
    return { key in
      if kept.contains(where: key.hasPrefix) { return key }
      if let other { return key.hasPrefix(other) ? bare + key.dropFirst(other.count) : nil }
      return hasPrefix || prefixes.contains(where: key.hasPrefix) ? nil : bare + key
    }
  }

  /// The component's tensors under their unified names.
  ///
  /// - Throws: `Issue` for a file that only describes the component.
  func part(of component: ModelFiles.Component) throws -> CombinedTensors.Part {
    let keys = keys(of: component)
    guard source.entries.keys.contains(where: { keys($0) != nil }) else {
      throw Issue(
        [.file(source.name)],
        "has no tensors of the \(component.title), but this file is given as the one of the "
          + component.title)
    }
    return CombinedTensors.Part(source, rename: keys)
  }
}

extension ModelFiles.Component {
  /// The component's keys in `config`.
  var configurationKeys: [String] {
    switch self {
    case .transformer: ["transformer"]
    case .videoVAE: ["vae"]
    case .audioVAE: ["audio_vae", "vocoder"]
    case .textEncoder: []
    case .durationHead: ["duration_head"]
    }
  }

  /// The prefixes of the component's tensors in the unified layout.
  var prefixes: [String] {
    switch self {
    case .transformer: ["model.diffusion_model.", "text_embedding_projection."]
    case .videoVAE: ["vae."]
    case .audioVAE: ["audio_vae.", "vocoder."]
    case .textEncoder: ["text_embedding_projection."]
    case .durationHead: ["duration_head."]
    }
  }

  /// The prefix that the component's own file may omit; nil if it always has one.
  fileprivate var omittedPrefix: String? {
    switch self {
    case .transformer: "model.diffusion_model."
    case .videoVAE: "vae."
    case .audioVAE: "audio_vae."
    case .textEncoder, .durationHead: nil
    }
  }
}
