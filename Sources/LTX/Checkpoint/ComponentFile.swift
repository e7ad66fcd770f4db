import Foundation
import NN
import Support
import TensorFiles

/// A file that holds a model or one of its components, with its metadata.
struct ComponentFile {
  let source: any TensorSource
  let config: Configuration
  let version: ModelVersion?

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
    version = source.metadata["model_version"].flatMap(ModelVersion.init)
  }

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
  /// component. Files of one component have either the unified names, or the component's own
  /// without its prefix.
  func keys(of component: ModelFiles.Component) -> @Sendable (String) -> String? {
    let kept: [String]
    let bare: String
    switch component {
    case .transformer:
      (kept, bare) = (
        ["model.diffusion_model.", "text_embedding_projection."], "model.diffusion_model."
      )
    case .videoVAE: (kept, bare) = (["vae."], "vae.")
    case .audioVAE: (kept, bare) = (["audio_vae.", "vocoder."], "audio_vae.")
    case .textEncoder: (kept, bare) = (["text_embedding_projection."], "")
    }
    // ComfyUI omits "model." when it saves a model, and others write the component's name.
    let other =
      component == .transformer
      ? ["diffusion_model.", "transformer."].first { prefix in
        source.entries.keys.contains { $0.hasPrefix(prefix) }
      } : nil
    let hasPrefix = source.entries.keys.contains { $0.hasPrefix(bare) }
    return { key in
      if kept.contains(where: key.hasPrefix) { return key }
      if let other { return key.hasPrefix(other) ? bare + key.dropFirst(other.count) : nil }
      return hasPrefix ? nil : bare + key
    }
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
    }
  }
}
