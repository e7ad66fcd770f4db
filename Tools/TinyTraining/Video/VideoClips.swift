// B batch, F frames, S the side of a clip or a window.

import DemoData
import Torch

/// Clips of the small world as tensors, drawn when they are needed.
struct VideoClips: Sendable {
  /// A part of a clip: a square of the latent's cells, and pixel frames.
  struct Window: Sendable, Equatable {
    var row = 0
    var column = 0
    /// The side in cells.
    var side = SceneLatents.side
    var firstFrame = 0
    /// The number of pixel frames, 8k + 1.
    var frames = DemoScene.frameCount

    static let whole = Window()

    /// Whole frames of 9, at one of three times that `number` chooses.
    static func frames(number: UInt64) -> Window {
      Window(firstFrame: SceneLatents.step * Int(number % 3), frames: SceneLatents.step + 1)
    }

    var rows: Range<Int> { row..<row + side }
    var columns: Range<Int> { column..<column + side }
  }

  let seed: UInt64

  /// The number of the scenes that are drawn for training.
  private static let sceneCount = 1 << 20

  /// Random scenes of training. Six in ten are plain, two are sketches, and two have snow.
  func scenes(_ count: Int, seed: UInt64) -> [DemoScene] {
    (0..<count).map { index in
      let number = RandomSeed.mix(seed, "clip", index)
      let style: DemoScene.Style =
        switch number % 10 {
        case 0..<6: .plain
        case 6..<8: .sketch
        default: .snow
        }
      return DemoWorld(seed: self.seed, style: style).scene(
        Int((number >> 8) % UInt64(Self.sceneCount)))
    }
  }

  /// A random window of 2 x 2 cells and 9 frames that the shape passes through.
  static func window(_ scene: DemoScene, seed: UInt64) -> Window {
    let number = RandomSeed.mix(seed, "window")
    var window = Window.frames(number: number)
    window.side = 2
    let middle = window.firstFrame + window.frames / 2
    let position = DemoMotion(scene).position(Double(middle) / Double(DemoScene.frameCount))
    // The cell of the shape's center is at a random place of the window.
    func start(_ position: Double, _ number: UInt64) -> Int {
      let cell = Int(position * Double(SceneLatents.side))
      let first = cell - Int(number % UInt64(window.side))
      return min(max(0, first), SceneLatents.side - window.side)
    }
    window.row = start(position.y, number >> 16)
    window.column = start(position.x, number >> 32)
    return window
  }

  /// The pixels of windows of equal size, [B, 3, F, S, S] in -1 ... 1.
  static func pixels(_ scenes: [DemoScene], _ windows: [Window]) throws -> Tensor {
    let (side, cell) = (DemoScene.side, SceneLatents.cell)
    let parts = try zip(scenes, windows).map { scene, window in
      let frames = (0..<window.frames).map { scene.pixels(frame: window.firstFrame + $0) }
      return try Tensor(Array(frames.joined()), shape: [window.frames, side, side, 3])
        .narrow(1, window.row * cell, window.side * cell)
        .narrow(2, window.column * cell, window.side * cell)
        .permute([3, 0, 1, 2])
    }
    return try Tensor.stack(parts).to(.float32) / 127.5 - 1
  }

  /// A whole clip, [1, 3, F, S, S] in -1 ... 1.
  static func clip(_ scene: DemoScene) throws -> Tensor { try pixels([scene], [.whole]) }
}
