import NN
import Torch

extension Checkpoint {
  /// - Throws: `ConfigurationError` for a checkpoint without a video VAE or with one that is not supported,
  ///   `WeightError` for one whose weights don't fit.
  public func videoEncoder(dtype: DType? = nil, device: Device = .cpu) throws -> VideoEncoder {
    try requireVideoVAE()
    return try VideoEncoder(
      weights(dtype: dtype, device: device) / Prefix.videoVAE,
      configuration: VideoVAEConfiguration.Encoder(config))
  }

  /// - Throws: as `videoEncoder`.
  public func videoDecoder(dtype: DType? = nil, device: Device = .cpu) throws -> VideoDecoder {
    try requireVideoVAE()
    return try VideoDecoder(
      weights(dtype: dtype, device: device) / Prefix.videoVAE,
      configuration: VideoVAEConfiguration.Decoder(config))
  }

  private func requireVideoVAE() throws {
    guard config.has("vae") else {
      throw config.error("vae", "is missing: the checkpoint \(source.name) holds no video VAE")
    }
  }
}
