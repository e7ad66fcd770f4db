// B batch, C latent channels, F H W latent frames, rows, columns, T tokens.

import Support
import Torch

/// A known latent that guides the generation of a video (ltx-core, `conditioning/types`).
public enum VideoCondition: Sendable {
  /// The latent stands in the video itself from a latent frame on: [B, C, f, H, W].
  case replace(latent: Tensor, latentFrame: Int, strength: Double)
  /// A still image at a pixel frame, appended as tokens of its own: [B, C, 1, H, W].
  case keyframe(latent: Tensor, frame: Int, strength: Double)
  /// A reference video for an IC-LoRA, appended; its positions are scaled onto the video's. The
  /// attention between it and the video can be weakened: [B, f * h * w] from 0 to 1.
  case reference(
    latent: Tensor, spatialScale: Int, temporalScale: Int, strength: Double,
    attention: Tensor? = nil)
  /// A latent of the whole video that is kept where the mask [B, F, H, W] is 1: [B, C, F, H, W].
  case masked(latent: Tensor, mask: Tensor, strength: Double)
}

/// The grid of a video that is generated.
public struct VideoGrid: Sendable {
  public var batch: Int
  public var channels: Int
  /// Latent frames, rows and columns.
  public var frames: Int
  public var rows: Int
  public var columns: Int
  public var fps: Double
  public var factors: CompressionFactors

  public init(
    batch: Int, channels: Int, frames: Int, rows: Int, columns: Int, fps: Double,
    factors: CompressionFactors
  ) {
    self.batch = batch
    self.channels = channels
    self.frames = frames
    self.rows = rows
    self.columns = columns
    self.fps = fps
    self.factors = factors
  }

  /// Which latent frames stand for anything within a stretch of time, in seconds.
  public func frames(from start: Double, to end: Double) -> [Bool] {
    (0..<frames).map { frame in
      // The first latent frame is one pixel frame, the others follow it.
      let first = max(0, frame * factors.time - (factors.time - 1))
      let last = max(0, (frame + 1) * factors.time - (factors.time - 1))
      return Double(last) / fps > start && Double(first) / fps < end
    }
  }

  /// The tokens of the video with conditions applied in order.
  ///
  /// - Parameter start: a latent to refine, [B, C, F, H, W]; nil where noise is all there is.
  /// - Throws: `Issue` when a latent does not fit the grid.
  public func sequence(_ conditions: [VideoCondition] = [], start: Tensor? = nil) throws
    -> LatentSequence
  {
    var sequence = try LatentSequence(
      batch: batch, channels: channels,
      positions: VideoTokens.positions(
        batch: batch, frames: frames, rows: rows, columns: columns, fps: fps, factors: factors))
    if let start {
      guard start.shape == [batch, channels, frames, rows, columns] else {
        throw Issue.shape(
          "latent to refine", start.shape, expected: "\([batch, channels, frames, rows, columns])")
      }
      // What is refined stands for what is known, too, until a condition says otherwise.
      let tokens = try VideoTokens.patchify(start)
      (sequence.start, sequence.clean) = (tokens, tokens)
    }
    for condition in conditions { try apply(condition, to: &sequence) }
    return sequence
  }

  private func apply(_ condition: VideoCondition, to sequence: inout LatentSequence) throws {
    switch condition {
    case .replace(let latent, let first, let strength):
      let count = latent.size(2)
      guard latent.shape == [batch, channels, count, rows, columns], first >= 0,
        first + count <= frames
      else {
        throw Issue(
          ["condition"],
          "has shape \(latent.shape) at latent frame \(first), which does not fit a video of "
            + "\([batch, channels, frames, rows, columns])")
      }
      let start = first * rows * columns
      let end = start + count * rows * columns
      sequence.clean = try sequence.clean.replacing(start..<end, with: VideoTokens.patchify(latent))
      sequence.denoiseMask = try sequence.denoiseMask.replacing(
        start..<end, with: .full([batch, end - start], Scalar(1 - strength)))
    case .keyframe(let latent, let frame, let strength):
      let (count, h, w) = try size(of: latent)
      var bounds = try VideoTokens.pixelBounds(
        batch: batch, frames: count, rows: h, columns: w, factors: factors, isCausal: frame == 0)
      // A still image spans one pixel frame, whatever its latent frame would.
      let start = try bounds.slice(1, from: 0, to: 1).slice(3, from: 0, to: 1) + Double(frame)
      bounds = try Tensor.cat([Tensor.cat([start, start + 1], 3), bounds.slice(1, from: 1)], 1)
      try sequence.append(
        VideoTokens.patchify(latent), positions: bounds.scalingTime(by: fps, divides: true),
        strength: strength)
    case .reference(let latent, let spatialScale, let temporalScale, let strength, let attention):
      let (count, h, w) = try size(of: latent)
      let positions = try VideoTokens.referencePositions(
        batch: batch, frames: count, rows: h, columns: w, fps: fps, factors: factors,
        spatialScale: spatialScale,
        temporalScale: temporalScale, targetPositions: sequence.positions)
      try sequence.append(
        VideoTokens.patchify(latent), positions: positions, strength: strength, attention: attention
      )
    case .masked(let latent, let mask, let strength):
      guard latent.shape == [batch, channels, frames, rows, columns],
        mask.shape == [batch, frames, rows, columns]
      else {
        throw Issue(
          ["condition"],
          "has shape \(latent.shape) and a mask of shape \(mask.shape), which do not fit a video of "
            + "\([batch, channels, frames, rows, columns])")
      }
      try sequence.keep(
        VideoTokens.patchify(latent), where: mask.flatten(from: 1, through: 3), strength: strength)
    }
  }

  private func size(of latent: Tensor) throws -> (Int, Int, Int) {
    let shape = latent.shape
    guard shape.count == 5, shape[0] == batch, shape[1] == channels else {
      throw Issue.shape(
        "condition", shape, expected: "[\(batch), \(channels), frames, rows, columns]")
    }
    return (shape[2], shape[3], shape[4])
  }
}

extension VideoTokens {
  /// Positions of a reference video's tokens, scaled onto the target's: [B, 3, T, 2].
  ///
  /// - Parameters:
  ///   - fps: the target's.
  ///   - spatialScale, temporalScale: how much coarser the reference is.
  ///   - targetPositions: of the target, whose first token spans one frame.
  static func referencePositions(
    batch: Int, frames: Int, rows: Int, columns: Int, fps: Double, factors: CompressionFactors,
    spatialScale: Int,
    temporalScale: Int, targetPositions: Tensor
  ) throws -> Tensor {
    let bounds = try pixelBounds(
      batch: batch, frames: frames, rows: rows, columns: columns, factors: factors, isCausal: true)
    var time = try bounds.slice(1, from: 0, to: 1) / (fps / Double(temporalScale))
    if temporalScale != 1 {
      // The reference's last frame ends with the target's; its first one is clamped back to 0.
      let frame = try targetPositions.slice(1, from: 0, to: 1).slice(2, from: 0, to: 1).slice(
        3, from: 1, to: 2)
      time = try (time - frame * Double(temporalScale - 1)).clamped(min: 0)
    }
    return try Tensor.cat([time, bounds.slice(1, from: 1) * Double(spatialScale)], 1)
  }
}

extension Tensor {
  /// A copy with part of dimension 1 replaced.
  func replacing(_ range: Range<Int>, with part: Tensor) throws -> Tensor {
    try Tensor.cat(
      [slice(1, from: 0, to: range.lowerBound), part, slice(1, from: range.upperBound)], 1)
  }
}
