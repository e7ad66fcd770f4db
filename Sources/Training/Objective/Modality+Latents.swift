// B batch, C latent channels, F H W latent frames, rows, columns, Z audio latent channels, T
// tokens.

import LTX
import Support
import Torch

/// The conversion of latents to tokens.
extension Modality {
  /// [B, C, F, H, W] or [B, Z, T, 16] to [B, T, channels].
  func tokens(_ latents: Tensor) throws -> Tensor {
    switch self {
    case .video: try VideoTokens.patchify(latents)
    case .audio: try AudioTokens.patchify(latents)
    }
  }

  /// The number of latent frames of video, or of time steps of audio.
  func steps(_ latents: Tensor) -> Int { latents.size(2) }

  /// The number of tokens of one sample.
  func tokenCount(_ shape: [Int]) -> Int {
    switch self {
    case .video: shape.suffix(3).reduce(1, *)
    case .audio: shape[shape.count - 2]
    }
  }

  /// The positions of tokens, [B, 3 or 1, T, 2]. Samples of different frame rates have their own.
  func positions(_ latents: TrainingBatch.Latents, _ factors: CompressionFactors) throws -> Tensor {
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

extension StreamStrategy.Condition.Kind {
  /// The tokens that the condition selects, [B or 1, T]; nil for a reference, which selects none.
  ///
  /// - Throws: `Issue` for a mask that is missing or does not fit.
  func region(
    of stream: TrainingBatch.Stream, _ kind: Modality, _ factors: CompressionFactors
  ) throws -> Tensor? {
    let shape = stream.latents.tensor.shape
    let steps = shape[2]
    let perStep = kind == .video ? shape[3] * shape[4] : 1
    func stretch(_ range: Range<Int>) throws -> Tensor {
      let flags = (0..<steps).flatMap { step in repeatElement(range.contains(step), count: perStep)
      }
      return try Tensor(flags, shape: [1, flags.count])
    }
    switch self {
    case .firstFrame: return try stretch(0..<1)
    case .prefix(let count): return try stretch(0..<min(count, steps))
    case .suffix(let count): return try stretch(max(steps - count, 0)..<steps)
    case .spatialCrop(let top, let left, let bottom, let right):
      let (rows, columns) = (shape[3], shape[4])
      func cells(_ from: Int, _ to: Int, _ factor: Int, _ limit: Int) -> Range<Int> {
        let (first, last) = (min(max(from / factor, 0), limit), min(max(to / factor, 0), limit))
        return first..<max(first, last)
      }
      let (y, x) = (
        cells(top, bottom, factors.height, rows), cells(left, right, factors.width, columns)
      )
      let frame = (0..<rows).flatMap { row in
        (0..<columns).map { y.contains(row) && x.contains($0) }
      }
      return try Tensor((0..<steps).flatMap { _ in frame }, shape: [1, steps * frame.count])
    case .mask(let folder):
      guard let mask = stream.masks[folder] else {
        throw Issue(["batch", .name("\(kind)")], "has no masks from \(folder)/")
      }
      let wanted = [shape[0], steps * perStep]
      guard mask.count == wanted[0] * wanted[1] else {
        throw Issue(
          ["batch", .name("\(kind)")],
          "has masks of shape \(mask.shape) from \(folder)/, which do not fit latents of shape "
            + "\(shape)")
      }
      return try mask.reshape(wanted).greater(than: 0.5)
    case .reference: return nil
    }
  }
}
