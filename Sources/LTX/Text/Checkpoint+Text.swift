import NN
import Torch

extension Checkpoint {
  /// The text encoder in a folder, with the projection of its features that this checkpoint holds.
  ///
  /// - Throws: `TokenizerError`, `TextEncoderError`, `WeightError`, `ConfigurationError`, each naming the file.
  public func promptEncoder(
    textEncoder folder: String, dtype: DType? = nil, device: Device = .cpu
  ) throws -> PromptEncoder {
    try PromptEncoder(
      checkpoint: weights(dtype: dtype, device: device), configuration: TextConfiguration(config),
      textEncoder: folder, dtype: dtype, device: device)
  }

  /// The way from text features to what the transformer attends to.
  ///
  /// - Throws: `WeightError`, `ConfigurationError`.
  public func textConnectors(
    dtype: DType? = nil, device: Device = .cpu, streams: Streams = .both
  ) throws -> TextConnectors {
    try TextConnectors(
      weights(dtype: dtype, device: device) / "model" / "diffusion_model",
      configuration: TextConfiguration(config), streams: streams)
  }
}
