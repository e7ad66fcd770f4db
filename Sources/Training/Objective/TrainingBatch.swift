// B batch, C latent channels, F H W latent frames, rows, columns, Z audio latent channels, T tokens
// or time steps, S text tokens, W context width.

import LTX
import Torch

/// Samples of one shape as the cache has them, with their text as the transformer takes it.
public struct TrainingBatch: Sendable {
  /// A latent as it is stored.
  public struct Latents: Sendable {
    /// Video [B, C, F, H, W] or sound [B, Z, T, 16], normalised.
    public var tensor: Tensor
    /// Frames per second of each sample of video, or one value for all of them.
    public var fps: [Double]

    public init(_ tensor: Tensor, fps: [Double]) {
      self.tensor = tensor
      self.fps = fps
    }

    /// - Parameter fps: the frame rate of all samples.
    public init(_ tensor: Tensor, fps: Double = 24) { self.init(tensor, fps: [fps]) }
  }

  public struct Stream: Sendable {
    public var latents: Latents
    /// By the folder that a condition names.
    public var references: [String: Latents]
    /// By folder: [B, F, H, W] or [B, T]; above 0.5 where the sample is given.
    public var masks: [String: Tensor]

    public init(
      latents: Latents, references: [String: Latents] = [:], masks: [String: Tensor] = [:]
    ) {
      self.latents = latents
      self.references = references
      self.masks = masks
    }
  }

  public var video: Stream?
  public var audio: Stream?

  public init(video: Stream?, audio: Stream?) {
    self.video = video
    self.audio = audio
  }

  /// The samples in it.
  public var count: Int { (video ?? audio)?.latents.tensor.size(0) ?? 0 }
}

/// The random numbers behind one stream of a training example.
public struct ModalityDraws: Sendable {
  /// [B]; nil for a stream that is not generated.
  public var sigma: Tensor?
  /// [B, T, C], standard normal; nil likewise.
  public var noise: Tensor?
  /// Uniform numbers for each condition and sample; a condition applies below its probability. Of a
  /// reference, the first number counts for the batch.
  public var conditions: [[Double]]

  public init(sigma: Tensor?, noise: Tensor?, conditions: [[Double]]) {
    self.sigma = sigma
    self.noise = noise
    self.conditions = conditions
  }
}

/// The random numbers behind a training example.
public struct TrainingDraws: Sendable {
  public var video: ModalityDraws?
  public var audio: ModalityDraws?

  public init(video: ModalityDraws?, audio: ModalityDraws?) {
    self.video = video
    self.audio = audio
  }
}

/// One stream with its noise and conditions, before it meets its text.
public struct NoisedModality: Sendable {
  /// [B, T, C]: tokens of references first.
  public var latent: Tensor
  /// Sigmas of the tokens: [B, T], or [B, 1] where all tokens of a sample have the same.
  public var timesteps: Tensor
  /// [B]; 0 for a stream that is not generated.
  public var sigma: Tensor
  /// [B, 3 or 1, T, 2]
  public var positions: Tensor
  /// [B, T', C], the velocity noise - x of the last T' tokens; nil for a stream that is not
  /// generated.
  public var target: Tensor?
  /// [B, T], 1 where a token counts; nil likewise.
  public var lossMask: Tensor?

  /// - Parameters:
  ///   - context: [B, S, W], from the connectors.
  ///   - contextMask: [B, S], 1 where there is text.
  public func stream(context: Tensor, contextMask: Tensor?) -> ModalityExample {
    ModalityExample(
      input: ModalityInput(
        latent: latent, timesteps: timesteps, sigma: sigma, positions: positions, context: context,
        contextMask: contextMask),
      target: target, lossMask: lossMask)
  }
}
