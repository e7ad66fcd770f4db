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
    let path = try textEncoderPath(textEncoder)
    try require("transformer")
    try requireTextEncoder(path)
    let root = try textProjectionRoot(
      textEncoder: path, LoadPolicy(dtype: dtype, device: device))
    return try PromptEncoder(
      checkpoint: root, configuration: TextConfiguration(config), textEncoder: path, dtype: dtype,
      device: device, storage: storage, placements: placements)
  }

  /// The text encoder and the projection of its features without a tokenizer, for prompts that are
  /// already tokens.
  ///
  /// - Parameter path: The text encoder's folder or file, which may hold the projection.
  /// - Throws: `Issue` for a text encoder that doesn't belong to this checkpoint; `WeightError`.
  public func textEncoder(
    at path: String, dtype: DType? = nil, device: Device = .cpu
  ) throws -> (encoder: any TextEncoder, extractor: FeatureExtractor) {
    if let mismatch = try textEncoderMismatch(at: path) { throw mismatch }
    let root = try textProjectionRoot(
      textEncoder: path, LoadPolicy(dtype: dtype, device: device))
    let encoder = try openTextEncoder(at: path, dtype: dtype, device: device)
    return (
      encoder,
      try FeatureExtractor(
        root, configuration: TextConfiguration(config), width: encoder.width,
        hiddenStateCount: encoder.hiddenStateCount)
    )
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
