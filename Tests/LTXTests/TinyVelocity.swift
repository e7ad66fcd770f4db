import LTX
import NN
import Testing
import Torch

/// A small forward pass of a tiny checkpoint: four video tokens at sigma 0.5.
struct TinyVelocity {
  private let context: Tensor
  private let latent: Tensor

  init(_ random: Generator) throws {
    (context, latent) = (try random.normal([1, 128, 64]), try random.normal([1, 4, 16]))
  }

  /// The velocity of the video, in float32.
  func callAsFunction(_ checkpoint: Checkpoint, _ storage: WeightStorage) throws -> Tensor {
    let transformer = try checkpoint.transformer(
      LoadPolicy(dtype: .float32, storage: storage), modalities: .video)
    let width =
      transformer.configuration.captionChannels
      ?? transformer.configuration.sizes.video.contextWidth
    let video = ModalityInput(
      latent: latent, timesteps: try Tensor.full([1, 1], 0.5), sigma: try Tensor.full([1], 0.5),
      positions: try VideoTokens.positions(
        batch: 1, frames: 1, rows: 2, columns: 2, fps: 24, factors: .usual),
      context: try context.slice(2, to: width))
    return try #require(try transformer(PerModality(video: video, audio: nil)).video)
  }
}
