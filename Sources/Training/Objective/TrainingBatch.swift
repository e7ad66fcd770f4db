// B batch, C latent channels, F H W latent frames, rows, columns, Z audio latent channels, T tokens
// or time steps, S text tokens, W context width.

import LTX
import Torch

/// Cached samples of one shape.
public struct TrainingBatch: Sendable {
  /// Latents in their stored form.
  public struct Latents: Sendable {
    /// Video [B, C, F, H, W] or audio [B, Z, T, 16], normalized.
    public var tensor: Tensor
    /// The frames per second of each sample of video, or one value for all.
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
    /// The references by the folder that a condition names.
    public var references: [String: Latents]
    /// The masks by folder, [B, F, H, W] or [B, T]; above 0.5 where the sample is conditioned.
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

  /// The number of samples.
  public var count: Int { (video ?? audio)?.latents.tensor.size(0) ?? 0 }
}

/// The random numbers of one modality of a training example.
public struct ModalityDraws: Sendable {
  /// [B]; nil for a modality that is not generated.
  public var sigma: Tensor?
  /// [B, T, C], standard normal; nil for a modality that is not generated.
  public var noise: Tensor?
  /// Uniform numbers for each condition and sample; a condition applies below its probability. For
  /// a reference, the first number decides for the batch.
  public var conditions: [[Double]]

  public init(sigma: Tensor?, noise: Tensor?, conditions: [[Double]]) {
    self.sigma = sigma
    self.noise = noise
    self.conditions = conditions
  }
}

/// The random numbers of a training example.
public struct TrainingDraws: Sendable {
  public var video: ModalityDraws?
  public var audio: ModalityDraws?

  public init(video: ModalityDraws?, audio: ModalityDraws?) {
    self.video = video
    self.audio = audio
  }
}

/// One modality with its noise and conditions, without its text.
public struct NoisedModality: Sendable {
  /// [B, T, C], tokens of references first.
  public var latent: Tensor
  /// The sigmas of the tokens, [B, T], or [B, 1] if all tokens of a sample have the same.
  public var timesteps: Tensor
  /// [B]; 0 for a modality that is not generated.
  public var sigma: Tensor
  /// [B, 3 or 1, T, 2]
  public var positions: Tensor
  /// [B, T', C], the velocity noise - x of the last T' tokens; nil for a modality that is not
  /// generated.
  public var target: Tensor?
  /// [B, T], 1 where a token counts; nil for a modality that is not generated.
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
