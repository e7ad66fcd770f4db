// B batch, Z audio channels, T audio latent frames, N frequency bins of the latent.

import Support
import Torch

/// Audio latents as tokens, and their positions in time.
public struct AudioTokens: Sendable {
  public var sampleRate = 16000
  /// The number of samples between two frames of the spectrogram.
  public var hopLength = 160
  /// The number of spectrogram frames in a latent frame.
  public var compression = 4

  public init() {}

  /// [B, Z, T, 16] to [B, T, Z * 16]; frequencies fastest.
  public static func patchify(_ latent: Tensor) throws -> Tensor {
    try latent.permute([0, 2, 1, 3]).flatten(from: 2, through: 3)
  }

  /// [B, T, Z * 16] to [B, Z, T, 16]
  public static func unpatchify(_ tokens: Tensor, channels: Int) throws -> Tensor {
    try tokens.unflatten(2, [channels, -1]).permute([0, 2, 1, 3]).contiguous()
  }

  /// Latent frames per second.
  public var rate: Double { Double(sampleRate) / Double(hopLength * compression) }

  /// The number of latent frames for a length of audio in seconds, rounded half to even.
  public func frames(seconds: Double) -> Int { Int((seconds * rate).rounded(.toNearestOrEven)) }

  /// The start and end of a latent frame. The first one is a single spectrogram frame.
  public func seconds(of frame: Int) -> (start: Double, end: Double) {
    func bound(_ index: Int) -> Double {
      Double(max(0, index * compression + 1 - compression) * hopLength) / Double(sampleRate)
    }
    return (bound(frame), bound(frame + 1))
  }

  /// Positions for the transformer: seconds, [B, 1, T, 2].
  public func positions(batch: Int, frames: Int) throws -> Tensor {
    let index = try Tensor.arange(to: Scalar(frames + 1), dtype: .float32) * Double(compression)
    let seconds =
      try (index + Double(1 - compression)).clamped(min: 0) * Double(hopLength) / Double(sampleRate)
    let bounds = try Tensor.stack(
      [seconds.slice(0, from: 0, to: frames), seconds.slice(0, from: 1)], -1)
    return try bounds.unsqueeze(0).unsqueeze(0).expand([batch, 1, frames, 2]).contiguous()
  }
}

/// The latent grid of generated audio.
public struct AudioGrid: Sendable {
  public var batch: Int
  /// Latent channels and frequency bins; a token holds both.
  public var channels: Int
  public var bins: Int
  /// Latent frames.
  public var frames: Int
  public var tokens: AudioTokens

  public init(
    batch: Int, channels: Int, bins: Int, frames: Int, tokens: AudioTokens = AudioTokens()
  ) {
    self.batch = batch
    self.channels = channels
    self.bins = bins
    self.frames = frames
    self.tokens = tokens
  }

  /// [B, Z, T, N]
  public var latentShape: [Int] { [batch, channels, frames, bins] }

  /// For each latent frame, whether it overlaps a range of time, in seconds.
  public func frames(from start: Double, to end: Double) -> [Bool] {
    (0..<frames).map { frame in
      let (first, last) = tokens.seconds(of: frame)
      return last > start && first < end
    }
  }

  /// The audio's tokens with conditions applied in order.
  ///
  /// - Parameter start: A latent to refine, [B, Z, T, N]; nil to start from noise.
  /// - Throws: `Issue` if a latent doesn't fit the grid, or a condition isn't for audio.
  public func sequence(_ conditions: [LatentCondition] = [], start: Tensor? = nil) throws
    -> LatentSequence
  {
    var sequence = try LatentSequence(
      batch: batch, channels: channels * bins,
      positions: tokens.positions(batch: batch, frames: frames))
    if let start {
      try requireFit(start)
      let tokens = try AudioTokens.patchify(start)
      (sequence.start, sequence.clean) = (tokens, tokens)
    }
    for condition in conditions {
      switch condition {
      case .masked(let latent, let mask, let strength):
        try requireFit(latent)
        try sequence.keep(AudioTokens.patchify(latent), where: mask, strength: strength)
      case .replace(let latent, let frame, let strength):
        let range = frame..<frame + (try count(latent))
        guard range.lowerBound >= 0, range.upperBound <= frames else {
          throw Issue(
            ["audio condition"],
            "must be within the \(frames) latent frames (got \(range.count) at \(frame))")
        }
        sequence.clean = try sequence.clean.replacing(range, with: AudioTokens.patchify(latent))
        sequence.denoiseMask = try sequence.denoiseMask.replacing(
          range, with: .full([batch, range.count], Scalar(1 - strength)))
      case .reference(let latent, _, let strength, let attention):
        // A reference keeps its own time.
        try sequence.append(
          AudioTokens.patchify(latent),
          positions: tokens.positions(batch: batch, frames: count(latent)), strength: strength,
          attention: attention)
      case .keyframe, .generatedKeyframes:
        throw Issue(["audio condition"], "is a keyframe, which audio can't have")
      }
    }
    return sequence
  }

  /// The number of latent frames of a condition's latent.
  private func count(_ latent: Tensor) throws -> Int {
    let shape = latent.shape
    guard shape.count == 4, shape[0] == batch, shape[1] == channels, shape[2] > 0, shape[3] == bins
    else {
      throw Issue.shape(
        "audio latent", shape, expected: "[\(batch), \(channels), frames, \(bins)]")
    }
    return shape[2]
  }

  private func requireFit(_ latent: Tensor) throws {
    guard latent.shape == latentShape else {
      throw Issue.shape("audio latent", latent.shape, expected: "\(latentShape)")
    }
  }
}
