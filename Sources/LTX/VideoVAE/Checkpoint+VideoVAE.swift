import NN
import Torch

extension Checkpoint {
  /// - Throws: `Issue` for a checkpoint without a video VAE or with an unsupported one,
  ///   `WeightError` if its weights don't fit.
  public func videoEncoder(dtype: DType? = nil, device: Device = .cpu) throws -> VideoEncoder {
    try require("vae")
    return try VideoEncoder(
      weights(LoadPolicy(dtype: dtype, device: device)) / Prefix.videoVAE,
      configuration: VideoVAEConfiguration.Encoder(config))
  }

  /// - Parameter steps: The number of steps of a diffusion decoder; nil for the model's default.
  /// - Throws: The same errors as `videoEncoder`, and `Issue` for steps that the decoder can't take.
  public func videoDecoder(dtype: DType? = nil, device: Device = .cpu, steps: Int? = nil) throws
    -> VideoDecoder
  {
    try require("vae")
    return try VideoDecoder(
      weights(LoadPolicy(dtype: dtype, device: device)) / Prefix.videoVAE,
      configuration: VideoVAEConfiguration.Decoder(config), steps: steps)
  }
}

extension Checkpoint {
  /// The statistics by which the video VAE normalizes latents, without the VAE: `LatentUpsampler`
  /// needs them besides its own file.
  ///
  /// - Throws: `Issue` for a checkpoint without a video VAE, `WeightError` for one without its
  ///   statistics.
  public func videoLatentStatistics(dtype: DType? = nil, device: Device = .cpu) throws
    -> ChannelStatistics
  {
    try require("vae")
    return try ChannelStatistics(
      weights(LoadPolicy(dtype: dtype, device: device)) / Prefix.videoVAE,
      channels: config.object("vae").positive("latent_channels", default: 128))
  }
}
