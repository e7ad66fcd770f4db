import Foundation
import TensorFiles
import Torch

/// The components of the tiny model, their configurations and their files.
struct TinyComponents {
  let generation: TinyModel.Generation
  /// Whether each component has a file of its own.
  let isSplit: Bool

  private var transformer: TinyTransformer {
    guard generation == .ltx25 else { return TinyTransformer(generation: generation) }
    var sizes = TinyTransformer.ltx25(isSplit: isSplit)
    sizes.captionWidth = TinyGemma4().width
    return sizes
  }

  private var videoVAE: TinyDiffusionVideoVAE { isSplit ? .split : .unified }

  private var durationHead: TinyDurationHead { TinyDurationHead(transformer) }

  /// The number of the text encoder's states.
  private var states: Int {
    (generation == .ltx25 ? TinyGemma4().layers : TinyGemma().layers) + 1
  }

  // MARK: Files

  /// Writes the checkpoint or the split pack, and the text encoder.
  ///
  /// - Returns: The tensors of the transformer, with others if it is not alone in its file.
  func write(
    to folder: URL, _ generator: Generator
  ) throws -> [(key: String, tensor: Tensor)] {
    guard isSplit else {
      let drawn = RandomWeights.Drawn(generator)
      let root = RandomWeights(into: drawn)
      for component in ModelFiles.Component.allCases { try draw(component, into: root) }
      try writeSafetensors(
        drawn.tensors, metadata: metadata(config: configuration()),
        to: folder.appendingPathComponent(generation.checkpointName).path)
      try writeTextEncoder(
        to: folder.appendingPathComponent(generation.textEncoderName), generator)
      return drawn.tensors
    }
    var transformer: [(key: String, tensor: Tensor)] = []
    for component in ModelFiles.Component.allCases {
      let drawn = RandomWeights.Drawn(generator)
      try draw(component, into: RandomWeights(into: drawn))
      let path = folder.appendingPathComponent(generation.splitName(component)).path
      switch component {
      case .textEncoder:
        try TinyGemma4().writePacked(to: path, projections: drawn.tensors, generator)
      case .transformer, .videoVAE, .audioVAE, .durationHead:
        try writeSafetensors(
          drawn.tensors, metadata: metadata(of: component, config: configuration(of: component)),
          to: path)
      }
      if component == .transformer { transformer = drawn.tensors }
    }
    return transformer
  }

  private func writeTextEncoder(to folder: URL, _ generator: Generator) throws {
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    if generation == .ltx25 {
      try TinyGemma4().write(to: folder, generator)
    } else {
      try TinyGemma().write(to: folder, generator)
    }
  }

  /// Draws a component's tensors: under their names in the unified layout, or those of its own
  /// file. The text encoder's component is the projection of its states.
  private func draw(_ component: ModelFiles.Component, into root: RandomWeights) throws {
    switch component {
    case .transformer:
      try transformer.draw(root / "model" / "diffusion_model")
      // Part of the transformer's random numbers, as in the first tiny models.
      if !isSplit { try drawProjections(root) }
    case .videoVAE:
      if generation == .ltx25 {
        try videoVAE.draw(isSplit ? root : root / Checkpoint.Prefix.videoVAE)
      } else {
        try TinyVideoVAE(generation: generation).draw(root / Checkpoint.Prefix.videoVAE)
      }
    case .audioVAE:
      try TinyAudioVAE().draw(root / Checkpoint.Prefix.audioVAE, generation)
      let vocoder = root / Checkpoint.Prefix.vocoder
      if generation == .ltx2 {
        try TinyVocoder.draw(vocoder)
      } else {
        try TinyBandwidthExtendingVocoder().draw(vocoder)
      }
    case .textEncoder:
      if isSplit { try drawProjections(root) }
    case .durationHead:
      if generation == .ltx25 { try durationHead.draw(root / Checkpoint.Prefix.durationHead) }
    }
  }

  private func drawProjections(_ root: RandomWeights) throws {
    try transformer.drawProjections(root / Checkpoint.Prefix.textProjection, states: states)
  }

  // MARK: Metadata

  private func metadata(
    of component: ModelFiles.Component = .transformer, config: String
  ) -> [String: String] {
    var metadata = ["config": config]
    metadata["model_version"] = generation.version
    guard generation == .ltx25, component == .transformer else { return metadata }
    return metadata.merging(TinyGemma4.checkpointMetadata) { $1 }
  }

  /// The `config` of the unified file.
  func configuration() -> String {
    var parts = ModelFiles.Component.allCases.flatMap(parts)
    parts.append(scheduler)
    return Self.json(parts)
  }

  /// The `config` of a component's own file.
  private func configuration(of component: ModelFiles.Component) -> String {
    switch component {
    case .transformer: return Self.json(parts(of: component) + [scheduler])
    case .durationHead:
      return Self.json(
        [("transformer", durationHead.transformerConfig)] + parts(of: component))
    case .videoVAE, .audioVAE, .textEncoder: return Self.json(parts(of: component))
    }
  }

  private func parts(of component: ModelFiles.Component) -> [(key: String, json: String)] {
    switch component {
    case .transformer: [("transformer", transformer.config)]
    case .videoVAE:
      [
        (
          "vae",
          generation == .ltx25 ? videoVAE.config : TinyVideoVAE(generation: generation).config
        )
      ]
    case .audioVAE:
      [
        ("audio_vae", TinyAudioVAE().config),
        (
          "vocoder",
          generation == .ltx2 ? TinyVocoder.config : TinyBandwidthExtendingVocoder().config
        ),
      ]
    case .textEncoder: []
    case .durationHead: generation == .ltx25 ? [("duration_head", durationHead.config)] : []
    }
  }

  private var scheduler: (key: String, json: String) {
    (
      "scheduler",
      """
      {
          "_class_name": "RectifiedFlowScheduler",
          "_diffusers_version": "0.25.1",
          "num_train_timesteps": 1000,
          "shifting": null,
          "base_resolution": null
        }
      """
    )
  }

  private static func json(_ parts: [(key: String, json: String)]) -> String {
    "{\n" + parts.map { "  \"\($0)\": \($1)" }.joined(separator: ",\n") + "\n}"
  }
}
