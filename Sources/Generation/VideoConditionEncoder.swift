// B batch, C latent channels, F H W latent frames, rows, columns.

import LTX
import Media
import Torch

/// Reads pictures and clips and encodes them to what a sampling knows of its video.
struct VideoConditionEncoder {
  /// What becomes of a file.
  enum Encoded {
    case condition(VideoCondition)
    /// The whole video, which stays as it is.
    case frozen(Tensor)
  }

  let encoder: VideoEncoder

  /// - Throws: `MediaError` for a file that changed since it was checked, and what the encoder
  ///   throws.
  func callAsFunction(_ encoding: GenerationStage.VideoEncoding) throws -> Encoded {
    let grid = encoding.grid
    let time = grid.factors.time
    let total = (grid.frames - 1) * time + 1
    switch encoding.condition {
    case .image(let path, let frame, let strength, _):
      let latent = try whole(image(path, encoding))
      return .condition(
        frame == 0
          ? .replace(latent: latent, latentFrame: 0, strength: strength)
          : .keyframe(latent: latent, frame: frame, strength: strength))
    case .firstFrame(let path):
      return .condition(
        .replace(latent: try whole(clip(path, encoding, most: 1)), latentFrame: 0, strength: 1))
    case .prefix(let path, let frames):
      let latent = try latent(clip(path, encoding, most: frames ?? total))
      return .condition(.replace(latent: latent, latentFrame: 0, strength: 1))
    case .suffix(let path, let frames):
      let given = try GivenVideo(encoding.condition)
      // Encoded with what is before them: the encoder looks back in time.
      let used = (min(given.frames, total) - 1) / time * time + 1
      let latent = try latent(clip(path, encoding, most: used, skipping: given.frames - used))
      let count = min((frames ?? used - 1) / time, latent.size(2) - 1)
      return .condition(
        .replace(
          latent: try latent.narrow(2, latent.size(2) - count, count),
          latentFrame: grid.frames - count,
          strength: 1))
    case .retake(let path, let from, let to):
      let kept = grid.frames(from: from, to: to).map { $0 ? Float(0) : 1 }
      let mask = try Tensor(kept, shape: [1, grid.frames, 1, 1])
        .expand([1, grid.frames, grid.rows, grid.columns]).contiguous()
      return .condition(.masked(latent: try edited(path, encoding, total), mask: mask, strength: 1))
    case .inpaint(let path, let maskPath):
      return .condition(
        .masked(
          latent: try edited(path, encoding, total),
          mask: try cells(maskPath, encoding, total, .whereBlack),
          strength: 1))
    case .keep(let path, let maskPath):
      return .condition(
        .masked(
          latent: try edited(path, encoding, total),
          mask: try cells(maskPath, encoding, total, .whereWhite),
          strength: 1))
    case .crop(let path, let region):
      return .condition(
        .masked(
          latent: try edited(path, encoding, total),
          mask: try grid.mask(keeping: grid.cells(of: region)),
          strength: 1))
    case .reference(let path, let strength, _, _):
      let latent = try whole(reference(path, encoding, total))
      let tokens = latent.size(2) * latent.size(3) * latent.size(4)
      return .condition(
        .reference(
          latent: latent, spatialScale: encoding.spatialScale,
          temporalScale: encoding.temporalScale,
          strength: strength,
          attention: encoding.attention == 1
            ? nil : try .full([1, tokens], Scalar(encoding.attention))))
    case .video(let path):
      return .frozen(try edited(path, encoding, total))
    case .audio, .audioPrefix, .audioSuffix, .audioKeep, .audioReference:
      preconditionFailure("a sound among videos")
    }
  }

  /// Clips may be long, and are encoded in tiles, as the reference's retake does.
  private func latent(_ pixels: Tensor) throws -> Tensor {
    try finite(encoder.encode(pixels, tiling: .usual(for: encoder.compression)))
  }

  /// Pictures and references are encoded as a whole, as in the reference: tiles would differ where
  /// they meet.
  private func whole(_ pixels: Tensor) throws -> Tensor { try finite(encoder(pixels)) }

  private func finite(_ latent: Tensor) throws -> Tensor {
    try latent.requireFinite(from: "video encoder")
    return try latent.to(.cpu, .float32)
  }

  private func edited(_ path: String, _ encoding: GenerationStage.VideoEncoding, _ total: Int)
    throws
    -> Tensor
  {
    let pixels = try clip(path, encoding, most: total)
    guard pixels.size(2) == total else {
      throw MediaError(
        .decoding, file: path, "gives \(pixels.size(2)) frames, but \(total) were announced",
        remedy: "Copy or convert the file anew, or use --num-frames.")
    }
    return try latent(pixels)
  }

  private func image(_ path: String, _ encoding: GenerationStage.VideoEncoding) throws -> Tensor {
    guard let frame = try VideoReader(path: path).next() else {
      throw MediaError(.decoding, file: path, "holds no picture", remedy: "Save it anew.")
    }
    let seen = encoding.crf == 0 ? frame : try frame.compressed(crf: encoding.crf)
    return try FrameTensors.stack([FrameTensors.filled(seen, (encoding.width, encoding.height))])
  }

  /// The first frames of a clip: [1, 3, frames, height, width]. The encoder leaves out those that
  /// complete no latent frame.
  private func clip(
    _ path: String, _ encoding: GenerationStage.VideoEncoding, most: Int, skipping: Int = 0
  ) throws -> Tensor {
    let reader = try VideoReader(path: path)
    for _ in 0..<skipping { _ = try reader.next() }
    var frames: [Tensor] = []
    while frames.count < most, let frame = try reader.next() {
      frames.append(try FrameTensors.filled(frame, (encoding.width, encoding.height)))
    }
    guard !frames.isEmpty else {
      throw MediaError(
        .decoding, file: path, "holds no frame", remedy: "Copy or convert the file anew.")
    }
    return try FrameTensors.stack(frames)
  }

  private enum Kept { case whereBlack, whereWhite }

  /// The cells that a mask keeps: [1, F, H, W].
  ///
  /// Where it marks what is made anew, a white pixel in any frame of a cell counts; where it marks
  /// what is kept, a cell must be white on average in a frame of it, as in preprocessing.
  private func cells(
    _ path: String, _ encoding: GenerationStage.VideoEncoding, _ total: Int, _ kept: Kept
  ) throws -> Tensor {
    let reader = try VideoReader(path: path)
    let grid = encoding.grid
    let factors = grid.factors
    var frames: [Tensor] = []
    while frames.count < total, let frame = try reader.next() {
      let level =
        try (FrameTensors.filled(frame, (encoding.width, encoding.height)).mean([0]) + 1) / 2
      let cells = try level.unflatten(1, [grid.columns, factors.width])
        .unflatten(0, [grid.rows, factors.height])
      frames.append(try kept == .whereWhite ? cells.mean([1, 3]) : cells.amax([1, 3]))
    }
    guard let last = frames.last else {
      throw MediaError(.decoding, file: path, "holds no picture", remedy: "Save it anew.")
    }
    // A picture, or a mask that ends early, holds to the end.
    frames += Array(repeating: last, count: total - frames.count)
    let cells = try (0..<grid.frames).map { frame in
      let first = max(0, frame * factors.time - (factors.time - 1))
      let end = frame * factors.time + 1
      return try Tensor.stack(Array(frames[first..<end]), 0).amax([0])
    }
    let level = try Tensor.stack(cells, 0)
    return try (kept == .whereWhite ? level.greater(than: 0.5) : level.lessOrEqual(to: 0.5)).to(
      .float32
    )
    .unsqueeze(0)
  }

  /// A reference's frames: [1, 3, frames, height, width].
  private func reference(
    _ path: String, _ encoding: GenerationStage.VideoEncoding, _ total: Int
  ) throws -> Tensor {
    let pixels = try clip(path, encoding, most: total)
    guard encoding.temporalScale > 1 else { return pixels }
    // The first frame stands alone, as in the latent.
    let indices = [0] + Array(stride(from: 1, to: pixels.size(2), by: encoding.temporalScale))
    return try pixels.indexSelect(2, Tensor(indices.map(Int64.init)))
  }

  /// The frames of a reference that is put beside the result, as the model saw them.
  func shown(_ encoding: GenerationStage.VideoEncoding) throws -> ShownReference? {
    guard case .reference(let path, _, _, isShown: true) = encoding.condition else { return nil }
    let grid = encoding.grid
    let total = (grid.frames - 1) * grid.factors.time + 1
    return ShownReference(
      frames: try FrameTensors.frames(reference(path, encoding, total)),
      temporalScale: encoding.temporalScale
    )
  }
}
