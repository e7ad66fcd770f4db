// B batch, F frames, S the side of a crop.

import DemoData
import Torch

/// Clips of the small world as tensors, drawn when they are needed.
struct VideoClips: Sendable {
  /// The part of a clip that a step trains with.
  struct Window: Sendable, Equatable {
    /// The side of a square crop, in pixels.
    var side = DemoScene.side
    var frames = DemoScene.frameCount
  }

  let seed: UInt64

  /// The number of the scenes that are drawn for training.
  private static let sceneCount = 1 << 20
  /// The number of crops that one is chosen from.
  private static let candidates = 4

  /// Draws a batch for training. Six in ten clips are plain, two are sketches, and two have snow.
  ///
  /// - Returns: [B, 3, F, S, S] in -1 ... 1.
  func batch(_ count: Int, _ window: Window, seed: UInt64) throws -> Tensor {
    var random = Random(seed: seed)
    let clips = try (0..<count).map { _ in
      let style: DemoScene.Style =
        switch random.index(below: 10) {
        case 0..<6: .plain
        case 6..<8: .sketch
        default: .snow
        }
      let scene = DemoWorld(seed: self.seed, style: style).scene(
        random.index(below: Self.sceneCount))
      return try crop(scene, window, &random)
    }
    return try Self.pixels(Tensor.stack(clips))
  }

  /// A whole clip, [1, 3, F, S, S] in -1 ... 1.
  static func clip(_ scene: DemoScene) throws -> Tensor {
    try pixels(frames(scene, 0..<DemoScene.frameCount).unsqueeze(0))
  }

  /// - Returns: [3, F, S, S], uint8.
  private func crop(_ scene: DemoScene, _ window: Window, _ random: inout Random) throws -> Tensor {
    let first = random.index(below: DemoScene.frameCount - window.frames + 1)
    let frames = try Self.frames(scene, first..<first + window.frames)
    guard window.side < DemoScene.side else { return frames }
    // Large parts of a clip are empty, so the most varied of a few crops is taken.
    var best: (variation: Double, crop: Tensor)?
    for _ in 0..<Self.candidates {
      let (row, column) = (
        random.index(below: DemoScene.side - window.side + 1),
        random.index(below: DemoScene.side - window.side + 1)
      )
      let crop = try frames.narrow(2, row, window.side).narrow(3, column, window.side)
      let variation = try crop.select(1, window.frames / 2).to(.float32).std().item()
      if variation > best?.variation ?? -1 { best = (variation, crop) }
    }
    return best?.crop ?? frames
  }

  /// - Returns: [3, F, S, S], uint8.
  private static func frames(_ scene: DemoScene, _ indices: Range<Int>) throws -> Tensor {
    let side = DemoScene.side
    let frames = indices.map { scene.pixels(frame: $0) }
    return try Tensor(Array(frames.joined()), shape: [indices.count, side, side, 3])
      .permute([3, 0, 1, 2])
  }

  /// Bytes as -1 ... 1.
  private static func pixels(_ bytes: Tensor) throws -> Tensor {
    try bytes.to(.float32) / 127.5 - 1
  }

  /// Integers that depend on nothing but the seed.
  private struct Random {
    let seed: UInt64
    private var count = 0

    init(seed: UInt64) { self.seed = seed }

    mutating func index(below limit: Int) -> Int {
      count += 1
      return Int(RandomSeed.mix(seed, "clip", count) % UInt64(limit))
    }
  }
}
