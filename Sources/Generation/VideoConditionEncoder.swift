// B batch, C latent channels, F H W latent frames, rows, columns.

import LTX
import Media
import Torch

/// Reads images and clips and encodes them to the video conditions of a sampling.
struct VideoConditionEncoder {
  /// The result of encoding a file.
  enum Encoded {
    case condition(LatentCondition)
    /// The latent of a video that stays unchanged.
    case frozen(Tensor)
  }

  let encoder: VideoEncoder

  /// - Throws: `MediaError` for a file that changed after it was checked, and errors of the
  ///   encoder.
  func callAsFunction(_ encoding: GenerationPlan.VideoEncoding) throws -> Encoded {
    let grid = encoding.grid
    let time = grid.factors.time
    let total = (grid.frames - 1) * time + 1
    let condition = encoding.condition
    let path = condition.path
    switch condition.kind {
    case .image(let frame):
      let latent = try whole(image(path, encoding))
      return .condition(
        frame == 0
          ? .replace(latent: latent, latentFrame: 0, strength: condition.strength)
          : .keyframe(latent: latent, frame: frame, strength: condition.strength))
    case .firstFrame:
      return .condition(.replace(latent: try whole(clip(path, encoding, max: 1)), latentFrame: 0))
    case .prefix:
      let latent = try latent(clip(path, encoding, max: condition.frames ?? total))
      return .condition(.replace(latent: latent, latentFrame: 0))
    case .suffix:
      let given = try GivenVideo(condition)
      // Encoded together with the frames before them, because the encoder looks back in time.
      let used = (min(given.frames, total) - 1) / time * time + 1
      let latent = try latent(clip(path, encoding, max: used, skipping: given.frames - used))
      let count = min((condition.frames ?? used - 1) / time, latent.size(2) - 1)
      return .condition(
        .replace(
          latent: try latent.narrow(2, latent.size(2) - count, count),
          latentFrame: grid.frames - count))
    case .retake(let from, let to):
      let kept = grid.frames(from: from, to: to).map { $0 ? Float(0) : 1 }
      let mask = try Tensor(kept, shape: [1, grid.frames, 1, 1])
        .expand([1, grid.frames, grid.rows, grid.columns]).contiguous()
      return .condition(.masked(latent: try edited(path, encoding, total), mask: mask))
    case .mask(let mask, let rule):
      return .condition(
        .masked(
          latent: try edited(path, encoding, total),
          mask: try cells(mask.path, encoding, total, rule)))
    case .crop(let region):
      return .condition(
        .masked(
          latent: try edited(path, encoding, total),
          mask: try grid.mask(keeping: grid.cells(of: region))))
    case .reference:
      let latent = try whole(reference(path, encoding, total))
      let tokens = latent.size(2) * latent.size(3) * latent.size(4)
      return .condition(
        .reference(
          latent: latent, scale: encoding.scale, strength: condition.strength,
          attention: encoding.attention == 1
            ? nil : try .full([1, tokens], Scalar(encoding.attention))))
    case .whole: return .frozen(try edited(path, encoding, total))
    }
  }

  /// Clips may be long, so they are encoded in tiles, as upstream's retake does.
  private func latent(_ pixels: Tensor) throws -> Tensor {
    try finite(encoder.encode(pixels, tiling: .usual(for: encoder.compression)))
  }

  /// Images and references are encoded as a whole, as upstream: tiles would differ at their seams.
  private func whole(_ pixels: Tensor) throws -> Tensor { try finite(encoder(pixels)) }

  private func finite(_ latent: Tensor) throws -> Tensor {
    try latent.requireFinite(from: "video encoder")
    return try latent.to(.cpu, .float32)
  }

  private func edited(_ path: String, _ encoding: GenerationPlan.VideoEncoding, _ total: Int)
    throws
    -> Tensor
  {
    let pixels = try clip(path, encoding, max: total)
    guard pixels.size(2) == total else {
      throw MediaError(
        .decoding, file: path, "has \(pixels.size(2)) frames, but its header promises \(total)",
        remedy: "Copy or convert the file again, or generate fewer frames.")
    }
    return try latent(pixels)
  }

  private func image(_ path: String, _ encoding: GenerationPlan.VideoEncoding) throws -> Tensor {
    guard let frame = try VideoReader(path: path).next() else {
      throw MediaError(.decoding, file: path, "has no image", remedy: "Save it again.")
    }
    let seen = encoding.crf == 0 ? frame : try frame.compressed(crf: encoding.crf)
    return try FrameTensors.stack([FrameTensors.filled(seen, (encoding.width, encoding.height))])
  }

  /// The first frames of a clip: [1, 3, frames, height, width]. The encoder skips frames at the end
  /// that don't fill a latent frame.
  private func clip(
    _ path: String, _ encoding: GenerationPlan.VideoEncoding, max: Int, skipping: Int = 0
  ) throws -> Tensor {
    let reader = try VideoReader(path: path)
    for _ in 0..<skipping { _ = try reader.next() }
    var frames: [Tensor] = []
    while frames.count < max, let frame = try reader.next() {
      frames.append(try FrameTensors.filled(frame, (encoding.width, encoding.height)))
    }
    guard !frames.isEmpty else {
      throw MediaError(
        .decoding, file: path, "has no frame", remedy: "Copy or convert the file again.")
    }
    return try FrameTensors.stack(frames)
  }

  /// The cells that a mask keeps: [1, F, H, W].
  private func cells(
    _ path: String, _ encoding: GenerationPlan.VideoEncoding, _ total: Int, _ rule: MaskRule
  ) throws -> Tensor {
    let reader = try VideoReader(path: path)
    let rasterizer = MaskRasterizer(factors: encoding.grid.factors, rule: rule)
    var frames: [Tensor] = []
    while frames.count < total, let frame = try reader.next() {
      let pixels = try FrameTensors.filled(frame, (encoding.width, encoding.height))
      frames.append(try rasterizer.cells((pixels.mean([0]) + 1) / 2))
    }
    guard !frames.isEmpty else {
      throw MediaError(.decoding, file: path, "has no image", remedy: "Save it again.")
    }
    return try rasterizer.mask(frames, count: total).unsqueeze(0)
  }

  /// A reference's frames: [1, 3, frames, height, width].
  private func reference(
    _ path: String, _ encoding: GenerationPlan.VideoEncoding, _ total: Int
  ) throws -> Tensor {
    let pixels = try clip(path, encoding, max: total)
    guard encoding.scale.time > 1 else { return pixels }
    // The first frame is separate, as in the latent.
    let indices = [0] + Array(stride(from: 1, to: pixels.size(2), by: encoding.scale.time))
    return try pixels.indexSelect(2, Tensor(indices.map(Int64.init)))
  }

  /// The frames of a reference that is shown beside the result, as the model received them.
  func shown(_ encoding: GenerationPlan.VideoEncoding) throws -> ShownReference? {
    guard case .reference(_, isShown: true) = encoding.condition.kind else { return nil }
    let grid = encoding.grid
    let total = (grid.frames - 1) * grid.factors.time + 1
    return ShownReference(
      frames: try FrameTensors.frames(reference(encoding.condition.path, encoding, total)),
      temporalScale: encoding.scale.time
    )
  }
}
