// B batch, C latent channels, F H W latent frames, rows, columns, Z audio latent channels, T tokens
// or time steps, S text tokens, W context width.

import LTX
import Torch

/// Cached samples of one shape.
public typealias TrainingBatch = PerModality<ModalityBatch?>

/// Cached latents.
public struct CachedLatents: Sendable {
  /// Video [B, C, F, H, W] or audio [B, Z, T, 16], normalized.
  public var tensor: Tensor
  /// The frame rate of each video sample, or one value for all of them.
  public var fps: [Double]

  public init(_ tensor: Tensor, fps: [Double]) {
    self.tensor = tensor
    self.fps = fps
  }

  /// - Parameter fps: the frame rate of all samples.
  public init(_ tensor: Tensor, fps: Double = 24) { self.init(tensor, fps: [fps]) }
}

/// One modality of a batch.
public struct ModalityBatch: Sendable {
  public var latents: CachedLatents
  /// References by the folder that a condition names.
  public var references: [String: CachedLatents]
  /// Masks by folder: [B, F, H, W] or [B, T]; above 0.5 where the sample is conditioned.
  public var masks: [String: Tensor]

  public init(
    latents: CachedLatents, references: [String: CachedLatents] = [:],
    masks: [String: Tensor] = [:]
  ) {
    self.latents = latents
    self.references = references
    self.masks = masks
  }
}

extension PerModality<ModalityBatch?> {
  /// The number of samples.
  public var count: Int { values().first?.latents.tensor.size(0) ?? 0 }

  func uploaded(to device: Device) throws -> TrainingBatch {
    try mapTensors { try $0.uploaded(to: device) }
  }

  /// The results of a function of each tensor.
  func mapTensors(_ change: (Tensor) throws -> Tensor) throws -> TrainingBatch {
    func changed(_ latents: CachedLatents) throws -> CachedLatents {
      CachedLatents(try change(latents.tensor), fps: latents.fps)
    }
    return try compactMap { _, batch in
      ModalityBatch(
        latents: try changed(batch.latents), references: try batch.references.mapValues(changed),
        masks: try batch.masks.mapValues(change))
    }
  }
}

/// The random numbers behind a training example.
public typealias TrainingDraws = PerModality<ModalityDraws?>

/// The random numbers behind one modality of a training example.
public struct ModalityDraws: Sendable {
  /// The noise level, [B]; nil for a modality that is not generated.
  public var sigma: Tensor?
  /// The noise, [B, T, C], standard normal; nil for a modality that is not generated.
  public var noise: Tensor?
  /// A uniform number for each condition and sample; a condition applies if it is below the
  /// condition's probability. For a reference, the first number counts for the whole batch.
  public var conditions: [[Double]]

  public init(sigma: Tensor?, noise: Tensor?, conditions: [[Double]]) {
    self.sigma = sigma
    self.noise = noise
    self.conditions = conditions
  }

  func uploaded(to device: Device) throws -> ModalityDraws {
    try mapTensors { try $0.uploaded(to: device) }
  }

  /// The results of a function of each tensor.
  func mapTensors(_ change: (Tensor) throws -> Tensor) rethrows -> ModalityDraws {
    ModalityDraws(
      sigma: try sigma.map(change), noise: try noise.map(change), conditions: conditions)
  }
}

/// One modality with its noise and conditions, before the text is added.
public struct NoisedModality: Sendable {
  /// The tokens, [B, T, C], with those of references first.
  public var latent: Tensor
  /// Sigmas of the tokens: [B, T], or [B, 1] if all tokens of a sample have the same.
  public var timesteps: Tensor
  /// The noise level, [B]; 0 for a modality that is not generated.
  public var sigma: Tensor
  /// [B, 3 or 1, T, 2]
  public var positions: Tensor
  /// [B, T', C], the velocity noise - x of the last T' tokens; nil for a modality that is not
  /// generated.
  public var target: Tensor?
  /// [B, T], 1 where a token counts; nil for a modality that is not generated.
  public var lossMask: Tensor?

  /// The modality as a part of a training example.
  ///
  /// - Parameter context: [B, S, W], from the connectors.
  public func example(context: Tensor) -> ModalityExample {
    ModalityExample(
      input: ModalityInput(
        latent: latent, timesteps: timesteps, sigma: sigma, positions: positions,
        context: context),
      target: target, lossMask: lossMask)
  }
}
