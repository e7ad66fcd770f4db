// B batch, C latent channels, F H W latent frames, rows, columns, Z audio latent channels, T
// tokens.

import LTX
import Support
import Torch

/// The conversion of latents to tokens.
extension Modality {
  /// Converts [B, C, F, H, W] or [B, Z, T, 16] to [B, T, channels].
  func tokens(_ latents: Tensor) throws -> Tensor {
    switch self {
    case .video: try VideoTokens.patchify(latents)
    case .audio: try AudioTokens.patchify(latents)
    }
  }

  /// Returns the number of tokens of one sample.
  func tokenCount(_ shape: [Int]) -> Int {
    switch self {
    case .video: shape.suffix(3).reduce(1, *)
    case .audio: shape[shape.count - 2]
    }
  }

  /// Returns the positions, [B, 3 or 1, T, 2]. Each sample has the positions of its own frame rate.
  func positions(_ latents: CachedLatents, _ factors: CompressionFactors) throws -> Tensor {
    let shape = latents.tensor.shape
    func video(batch: Int, fps: Double) throws -> Tensor {
      try VideoTokens.positions(
        batch: batch, frames: shape[2], rows: shape[3], columns: shape[4], fps: fps,
        factors: factors)
    }
    switch self {
    case .video:
      guard let first = latents.fps.first else {
        throw Issue(["batch", "video"], "has no frame rate")
      }
      guard latents.fps.contains(where: { $0 != first }) else {
        return try video(batch: shape[0], fps: first)
      }
      return try Tensor.cat(latents.fps.map { try video(batch: 1, fps: $0) }, 0)
    case .audio: return try AudioTokens().positions(batch: shape[0], frames: shape[2])
    }
  }
}

extension Condition<CachedSource> {
  /// Returns the conditioned tokens, [B or 1, T]; nil for a reference, which conditions none of the
  /// modality's own tokens.
  ///
  /// - Throws: `Issue` if a mask is missing or does not fit.
  func tokens(
    of batch: ModalityBatch, _ modality: Modality, _ factors: CompressionFactors
  ) throws -> Tensor? {
    let shape = batch.latents.tensor.shape
    let steps = shape[2]
    let perStep = modality == .video ? shape[3] * shape[4] : 1
    func tokens(in range: Range<Int>) throws -> Tensor {
      let flags = (0..<steps).flatMap { repeatElement(range.contains($0), count: perStep) }
      return try Tensor(flags, shape: [1, flags.count])
    }
    switch kind {
    case .firstFrame: return try tokens(in: 0..<1)
    case .prefix: return try tokens(in: 0..<min(latentFrames ?? steps, steps))
    case .suffix: return try tokens(in: max(steps - (latentFrames ?? steps), 0)..<steps)
    case .crop(let region):
      let (rows, columns) = (shape[3], shape[4])
      let cells = LatentRegion(region, rows: rows, columns: columns, factors: factors)
      let frame = (0..<rows).flatMap { row in
        (0..<columns).map { cells.rows.contains(row) && cells.columns.contains($0) }
      }
      return try Tensor((0..<steps).flatMap { _ in frame }, shape: [1, steps * frame.count])
    case .mask:
      guard let folder = maskFolder, let mask = batch.masks[folder] else {
        throw Issue(["batch", .name("\(modality)")], "has no masks from \(maskFolder ?? "")/")
      }
      let wanted = [shape[0], steps * perStep]
      guard mask.count == wanted[0] * wanted[1] else {
        throw Issue(
          ["batch", .name("\(modality)")],
          "has masks of shape \(mask.shape) from \(folder)/, which do not fit latents of shape "
            + "\(shape)")
      }
      return try mask.reshape(wanted).greater(than: 0.5)
    case .reference: return nil
    case .image, .retake, .whole:
      throw Issue(["condition"], "has type \(type), which training does not support")
    }
  }
}
