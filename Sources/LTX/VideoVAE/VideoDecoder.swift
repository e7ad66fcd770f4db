// B batch, C latent channels, F H W latent frames, rows, columns, (t, h, w) the compression.

import NN
import Support
import Torch

/// Decodes latents to pixels with the decoder that the configuration describes.
public enum VideoDecoder: Sendable {
  case convolutional(ConvolutionalVideoDecoder)
  case diffusion(DiffusionVideoDecoder)

  /// - Parameters:
  ///   - w: The scope of the VAE, which holds `decoder` and `per_channel_statistics`.
  ///   - steps: The number of steps of a diffusion decoder: more are slower and finer. Nil is the
  ///     model's default.
  /// - Throws: `WeightError` if the checkpoint doesn't fit the configuration; `Issue` for steps
  ///   that the decoder can't take.
  public init(_ w: Weights, configuration: VideoVAEConfiguration.Decoder, steps: Int? = nil) throws
  {
    switch configuration {
    case .convolutional(let configuration):
      guard steps == nil else {
        throw Issue(
          ["decoderSteps"],
          "must not be given for this video VAE, whose decoder is convolutional and has no steps")
      }
      self = .convolutional(try ConvolutionalVideoDecoder(w, configuration: configuration))
    case .diffusion(var configuration):
      if let steps {
        guard (1...VideoVAEConfiguration.DiffusionDecoder.maxSteps).contains(steps) else {
          throw Issue(
            ["decoderSteps"],
            "must be between 1 and \(VideoVAEConfiguration.DiffusionDecoder.maxSteps) (got \(steps))"
          )
        }
        configuration.steps = steps
      }
      self = .diffusion(try DiffusionVideoDecoder(w, configuration: configuration))
    }
  }

  public var configuration: VideoVAEConfiguration.Decoder {
    switch self {
    case .convolutional(let decoder): .convolutional(decoder.configuration)
    case .diffusion(let decoder): .diffusion(decoder.configuration)
    }
  }

  /// The number of pixels and frames of one latent cell.
  public var compression: CompressionFactors { configuration.compression }

  /// Whether decoding needs random noise.
  public var needsNoise: Bool {
    switch self {
    case .convolutional(let decoder): decoder.needsNoise
    case .diffusion: true
    }
  }

  /// - Parameters:
  ///   - latent: [B, C, F, H, W], normalized as the encoder returns it.
  ///   - tiling: The tiling for videos that are too long or large to be decoded at once.
  ///   - noise: The noise for decoders that need it (`needsNoise`), in the order of use.
  /// - Returns: Pixels [B, 3, (F - 1) * t + 1, H * h, W * w], about -1 ... 1 but not clamped, in
  ///   the latent's dtype.
  /// - Throws: `Issue` for a latent of another shape, one that is too small, tiles that the decoder
  ///   can't be tiled by, or missing noise.
  public func decode(_ latent: Tensor, tiling: Tiling? = nil, noise: NoiseSource? = nil) throws
    -> Tensor
  {
    switch self {
    case .convolutional(let decoder): try decoder.decode(latent, tiling: tiling, noise: noise)
    case .diffusion(let decoder): try decoder.decode(latent, tiling: tiling, noise: noise)
    }
  }

  /// Decodes part by part, so that a long video is never in memory as a whole.
  ///
  /// - Parameter receive: Called with consecutive frames [B, 3, frames, H * h, W * w].
  public func decode(
    _ latent: Tensor, tiling: Tiling, noise: NoiseSource? = nil, receive: (Tensor) throws -> Void
  ) throws {
    switch self {
    case .convolutional(let decoder):
      try decoder.decode(latent, tiling: tiling, noise: noise, receive: receive)
    case .diffusion(let decoder):
      try decoder.decode(latent, tiling: tiling, noise: noise, receive: receive)
    }
  }
}

extension VideoDecoder {
  /// A decoder that needs noise, without a source of it.
  static var noiseIssue: Issue {
    Issue(
      ["noise"], "is missing, but this decoder needs it",
      suggestion: "Give the decoder a source of standard normal noise.")
  }
}
