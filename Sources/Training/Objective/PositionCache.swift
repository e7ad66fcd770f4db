import LTX
import Synchronization
import Torch

/// The positions of the last batches on the device. Samples of one shape and frame rate have the
/// same positions, so a run gives the transformer the same tensor again, for which it has the
/// rotary tables already.
final class PositionCache: Sendable {
  private struct Key: Hashable {
    let modality: Modality
    let shape: [Int]
    let fps: [Double]
    let device: Device
  }

  /// The most shapes that are kept; positions are small.
  private static let limit = 64
  private let kept = Mutex<[Key: Tensor]>([:])

  /// - Parameter make: computes the positions, [B, 3 or 1, T, 2].
  func positions(
    of latents: CachedLatents, _ modality: Modality, on device: Device, _ make: () throws -> Tensor
  ) rethrows -> Tensor {
    let key = Key(
      modality: modality, shape: latents.tensor.shape, fps: latents.fps, device: device)
    if let positions = kept.withLock({ $0[key] }) { return positions }
    let positions = try make()
    kept.withLock {
      if $0.count >= Self.limit { $0 = [:] }
      $0[key] = positions
    }
    return positions
  }
}
