// B batch, C latent channels, F H W latent frames, rows, columns, T tokens.

import Support
import Torch

/// The latent grid of a generated video.
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

  /// For each latent frame, whether it overlaps a range of time, in seconds.
  public func frames(from start: Double, to end: Double) -> [Bool] {
    (0..<frames).map { frame in
      // The first latent frame is a single pixel frame.
      let first = max(0, frame * factors.time - (factors.time - 1))
      let last = max(0, (frame + 1) * factors.time - (factors.time - 1))
      return Double(last) / fps > start && Double(first) / fps < end
    }
  }

  /// The video's tokens with conditions applied in order.
  ///
  /// - Parameter start: A latent to refine, [B, C, F, H, W]; nil to start from noise.
  /// - Throws: `Issue` if a latent doesn't fit the grid.
  public func sequence(_ conditions: [LatentCondition] = [], start: Tensor? = nil) throws
    -> LatentSequence
  {
    var sequence = try LatentSequence(
      batch: batch, channels: channels,
      positions: VideoTokens.positions(
        batch: batch, frames: frames, rows: rows, columns: columns, fps: fps, factors: factors))
    sequence.keyframesMask = try Tensor.cat(
      [.ones([batch, rows * columns]), .zeros([batch, (frames - 1) * rows * columns])], 1)
    if let start {
      try require(start, latentShape, "latent to refine")
      // The refined latent also counts as known, until a condition replaces it.
      let tokens = try VideoTokens.patchify(start)
      (sequence.start, sequence.clean) = (tokens, tokens)
    }
    for condition in conditions { try apply(condition, to: &sequence) }
    return sequence
  }

  private func apply(_ condition: LatentCondition, to sequence: inout LatentSequence) throws {
    switch condition {
    case .replace(let latent, let first, let strength):
      let count = latent.size(2)
      try require(latent, [batch, channels, count, rows, columns], "condition")
      guard first >= 0, first + count <= frames else {
        throw Issue(
          ["condition"],
          "must be within the \(frames) latent frames (got \(count) at \(first))")
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
      // A still image spans one pixel frame, unlike other latent frames.
      let start = try bounds.slice(1, from: 0, to: 1).slice(3, from: 0, to: 1) + Double(frame)
      bounds = try Tensor.cat([Tensor.cat([start, start + 1], 3), bounds.slice(1, from: 1)], 1)
      try sequence.append(
        VideoTokens.patchify(latent), positions: bounds.scalingTime(by: fps, divides: true),
        strength: strength)
    case .reference(let latent, let scale, let strength, let attention):
      let (count, h, w) = try size(of: latent)
      let positions = try scale.placing(
        VideoTokens.positions(
          batch: batch, frames: count, rows: h, columns: w, fps: fps / Double(scale.time),
          factors: factors),
        onto: sequence.positions)
      try sequence.append(
        VideoTokens.patchify(latent), positions: positions, strength: strength, attention: attention
      )
    case .generatedKeyframes(let indices, let start):
      let shape = [batch, channels, indices.count, rows, columns]
      if let start { try require(start, shape, "start of generated keyframes") }
      try sequence.appendGenerated(
        start.map(VideoTokens.patchify), count: indices.count * rows * columns,
        positions: keyframePositions(indices))
    case .masked(let latent, let mask, let strength):
      try require(latent, latentShape, "masked latent")
      try require(mask, [batch, frames, rows, columns], "mask")
      try sequence.keep(
        VideoTokens.patchify(latent), where: mask.flatten(from: 1, through: 3), strength: strength)
    }
  }

  /// The number of pixel frames.
  public var pixelFrames: Int { (frames - 1) * factors.time + 1 }

  /// The positions of latent frames that each show one pixel frame: [B, 3, K * H * W, 2]. Unlike
  /// the video's own first frame, a slot at frame 0 is not moved.
  private func keyframePositions(_ indices: [Int]) throws -> Tensor {
    guard !indices.isEmpty, indices[0] >= 0, indices[indices.count - 1] < pixelFrames,
      zip(indices, indices.dropFirst()).allSatisfy({ $0 < $1 })
    else {
      throw Issue(
        ["generated keyframes"],
        "must be at increasing pixel frames from 0 to \(pixelFrames - 1) (got "
          + "\(indices.map(String.init).joined(separator: ", ")))")
    }
    let bounds = try VideoTokens.pixelBounds(
      batch: batch, frames: indices.count, rows: rows, columns: columns, factors: factors,
      isCausal: false)
    let start = try Tensor(indices.map(Float.init), shape: [indices.count, 1, 1])
      .expand([indices.count, rows, columns]).reshape([1, 1, -1, 1])
      .expand([batch, 1, indices.count * rows * columns, 1])
    let time = try Tensor.cat([start, start + 1], 3)
    return try Tensor.cat([time, bounds.slice(1, from: 1)], 1).scalingTime(by: fps, divides: true)
  }

  /// [B, C, F, H, W]
  public var latentShape: [Int] { [batch, channels, frames, rows, columns] }

  private func require(_ tensor: Tensor, _ shape: [Int], _ name: Issue.PathComponent) throws {
    guard tensor.shape == shape else {
      throw Issue.shape(name, tensor.shape, expected: "\(shape)")
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

extension Tensor {
  /// A copy with part of dimension 1 replaced.
  func replacing(_ range: Range<Int>, with part: Tensor) throws -> Tensor {
    try Tensor.cat(
      [slice(1, from: 0, to: range.lowerBound), part, slice(1, from: range.upperBound)], 1)
  }
}
