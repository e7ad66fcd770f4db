import NN
import Torch

extension Checkpoint.Prefix {
  public static let audioVAE = "audio_vae"
  public static let vocoder = "vocoder"
}

extension Checkpoint {
  /// The encoder of audio to latents.
  ///
  /// - Throws: `Issue` for a checkpoint without an audio VAE or with an unsupported one,
  ///   `WeightError` if its weights don't fit.
  public func audioEncoder(dtype: DType? = nil, device: Device = .cpu) throws -> AudioEncoder {
    try require("audio_vae")
    return try AudioEncoder(
      weights(LoadPolicy(dtype: dtype, device: device)) / Prefix.audioVAE,
      configuration: AudioVAEConfiguration(config))
  }

  /// The decoder of latents to spectrograms.
  ///
  /// - Throws: The same errors as `audioEncoder`.
  public func audioDecoder(dtype: DType? = nil, device: Device = .cpu) throws -> AudioDecoder {
    try require("audio_vae")
    return try AudioDecoder(
      weights(LoadPolicy(dtype: dtype, device: device)) / Prefix.audioVAE,
      configuration: AudioVAEConfiguration(config))
  }

  /// The vocoder, which turns spectrograms into audio. With bandwidth extension it is in float32,
  /// regardless of `dtype`.
  ///
  /// - Throws: `Issue` for a checkpoint without a vocoder or with an unsupported one, `WeightError`
  ///   if its weights don't fit.
  public func vocoder(dtype: DType? = nil, device: Device = .cpu) throws -> Vocoder {
    try require("vocoder")
    let configuration = try VocoderConfiguration(config)
    let dtype = configuration.bandwidthExtension == nil ? dtype : .float32
    return try Vocoder(
      weights(LoadPolicy(dtype: dtype, device: device)) / Prefix.vocoder,
      configuration: configuration)
  }
}
