import NN
import Torch

extension Checkpoint {
  /// The statistics by which the video VAE normalizes latents, without the VAE: `LatentUpsampler`
  /// needs them besides its own file.
  ///
  /// - Throws: `ConfigurationError` for a checkpoint without a video VAE, `WeightError` for one
  ///   without its statistics.
  public func videoLatentStatistics(dtype: DType? = nil, device: Device = .cpu) throws
    -> ChannelStatistics
  {
    try require("vae")
    return try ChannelStatistics(
      weights(LoadPolicy(dtype: dtype, device: device)) / Prefix.videoVAE,
      channels: config.object("vae").positive("latent_channels", default: 128))
  }
}
