// B batch, C latent channels, T tokens.

import Torch

/// The tokens of one stream that sampling works on: what is known of them, how much of it is kept, where they lie.
public struct LatentSequence: Sendable {
  /// [B, T, C]: what conditioned tokens are; zeros elsewhere.
  public var clean: Tensor
  /// [B, T], float32: 1 where a token is generated, 0 where it is given.
  public var denoiseMask: Tensor
  /// [B, A, T, 2]
  public var positions: Tensor
  /// The first tokens, which are the result; conditions are appended behind them.
  public let targetCount: Int

  public init(clean: Tensor, denoiseMask: Tensor, positions: Tensor) {
    self.clean = clean
    self.denoiseMask = denoiseMask
    self.positions = positions
    targetCount = clean.size(1)
  }

  /// Nothing is known.
  public init(batch: Int, channels: Int, positions: Tensor) throws {
    let tokens = positions.size(2)
    self.init(
      clean: try .zeros([batch, tokens, channels]), denoiseMask: try .ones([batch, tokens]),
      positions: positions)
  }

  mutating func append(_ tokens: Tensor, positions: Tensor, strength: Double) throws {
    clean = try Tensor.cat([clean, tokens], 1)
    let mask = try Tensor.full([tokens.size(0), tokens.size(1)], Scalar(1 - strength))
    denoiseMask = try Tensor.cat([denoiseMask, mask], 1)
    self.positions = try Tensor.cat([self.positions, positions], 2)
  }
}

/// A known latent that guides the generation of a video (ltx-core, `conditioning/types`).
public enum VideoCondition: Sendable {
  /// The latent stands in the video itself from a latent frame on: [B, C, f, H, W].
  case replace(latent: Tensor, latentFrame: Int, strength: Double)
  /// A still image at a pixel frame, appended as tokens of its own: [B, C, 1, H, W].
  case keyframe(latent: Tensor, frame: Int, strength: Double)
  /// A reference video for an IC-LoRA, appended; its positions are scaled onto the video's.
  case reference(latent: Tensor, spatialScale: Int, temporalScale: Int, strength: Double)
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
    batch: Int, channels: Int, frames: Int, rows: Int, columns: Int, fps: Double, factors: CompressionFactors
  ) {
    self.batch = batch
    self.channels = channels
    self.frames = frames
    self.rows = rows
    self.columns = columns
    self.fps = fps
    self.factors = factors
  }

  /// The tokens of the video with conditions applied in order.
  ///
  /// - Throws: `ModalityError` when a condition's latent does not fit the grid.
  public func sequence(_ conditions: [VideoCondition] = []) throws -> LatentSequence {
    var sequence = try LatentSequence(
      batch: batch, channels: channels,
      positions: VideoTokens.positions(
        batch: batch, frames: frames, rows: rows, columns: columns, fps: fps, factors: factors))
    for condition in conditions { try apply(condition, to: &sequence) }
    return sequence
  }

  private func apply(_ condition: VideoCondition, to sequence: inout LatentSequence) throws {
    switch condition {
    case .replace(let latent, let first, let strength):
      let count = latent.size(2)
      guard latent.shape == [batch, channels, count, rows, columns], first >= 0, first + count <= frames
      else {
        throw ModalityError(
          problem: "a condition of shape \(latent.shape) at latent frame \(first) does not fit a video of "
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
    case .reference(let latent, let spatialScale, let temporalScale, let strength):
      let (count, h, w) = try size(of: latent)
      let positions = try VideoTokens.referencePositions(
        batch: batch, frames: count, rows: h, columns: w, fps: fps, factors: factors,
        spatialScale: spatialScale,
        temporalScale: temporalScale, targetPositions: sequence.positions)
      try sequence.append(VideoTokens.patchify(latent), positions: positions, strength: strength)
    }
  }

  private func size(of latent: Tensor) throws -> (Int, Int, Int) {
    let shape = latent.shape
    guard shape.count == 5, shape[0] == batch, shape[1] == channels else {
      throw ModalityError(
        problem: "a condition has shape \(shape); expected [\(batch), \(channels), f, h, w]")
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
    try Tensor.cat([slice(1, from: 0, to: range.lowerBound), part, slice(1, from: range.upperBound)], 1)
  }
}
