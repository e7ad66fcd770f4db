import LanguageModels
import NN
import Support
import Torch

extension Checkpoint {
  /// The text encoder together with this checkpoint's projection of its features.
  ///
  /// - Parameters:
  ///   - textEncoder: The text encoder's folder or file; nil for that of `files`.
  ///   - storage: The storage of its weights; `.int8` halves its memory.
  ///   - placements: The locations of its layers' weights.
  /// - Throws: `Issue`, `WeightError`, each naming the file.
  public func promptEncoder(
    textEncoder: String? = nil, dtype: DType? = nil, device: Device = .cpu,
    storage: WeightStorage = .asStored, placements: WeightPlacements = .resident
  ) throws -> PromptEncoder {
    guard let path = textEncoder ?? files.textEncoder else {
      throw Issue(
        ["textEncoder"], "is missing",
        suggestion: "Give the folder or the file of a Gemma 3 model.")
    }
    try require("transformer")
    let root = weights(LoadPolicy(dtype: dtype, device: device))
    guard (root / Prefix.textProjection).isPresent else {
      throw WeightError(
        file: files.path(of: .transformer) ?? source.name, key: "\(Prefix.textProjection).*",
        problem:
          "is missing: the projection of text features is in the unified checkpoint, in the transformer's "
          + "file or in the text encoder's")
    }
    return try PromptEncoder(
      checkpoint: root, configuration: TextConfiguration(config), textEncoder: path, dtype: dtype,
      device: device, storage: storage, placements: placements)
  }

  /// The connectors, which turn text features into the contexts that the transformer attends to.
  ///
  /// - Throws: `WeightError`, `Issue`.
  public func textConnectors(
    dtype: DType? = nil, device: Device = .cpu, modalities: Set<Modality> = .both
  ) throws -> TextConnectors {
    try TextConnectors(
      weights(LoadPolicy(dtype: dtype, device: device)) / "model" / "diffusion_model",
      configuration: TextConfiguration(config), modalities: modalities)
  }
}
