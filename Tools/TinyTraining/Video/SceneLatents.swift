// C channels, F H W latent frames, rows, columns.

import DemoData
import Foundation
import Torch

/// The latents that the video VAE learns: what a cell of the latent shows, in numbers that are
/// known for drawn clips.
///
/// A VAE that had to find its own latents learned little but the mean color of each cell of 32 x 32
/// pixels in the time that there is (docs/decisions.md). With given latents, the encoder learns to
/// read a clip and the decoder learns to draw it, each by itself.
enum SceneLatents {
  static let channels = 32
  /// The side of a cell in pixels.
  static let cell = 32
  static let side = DemoScene.side / cell
  /// The pixel frames of a latent frame after the first one.
  static let step = 8

  /// Returns the latent of a window: [C, F, H, W].
  static func latent(
    _ scene: DemoScene, _ window: VideoClips.Window = .whole
  ) throws -> Tensor {
    let cells = SceneCells(scene)
    let frames = 1 + (window.frames - 1) / step
    let values = (0..<frames).flatMap { frame in
      window.rows.flatMap { row in
        window.columns.flatMap { cells.values(frame, of: window, row, $0) }
      }
    }
    return try Tensor(values, shape: [frames, window.side, window.side, channels])
      .permute([3, 0, 1, 2])
  }
}

/// The channels of the cells of a scene.
private struct SceneCells {
  private let scene: DemoScene
  private let motion: DemoMotion
  private let shades: DemoShades
  private let snow: DemoSnow

  init(_ scene: DemoScene) {
    self.scene = scene
    motion = DemoMotion(scene)
    shades = DemoShades(scene)
    snow = DemoSnow(scene)
  }

  /// The times of the first, the middle and the last of the pixel frames of a latent frame.
  private static func times(
    _ frame: Int, of window: VideoClips.Window
  ) -> (first: Double, middle: Double, last: Double) {
    let count = Double(DemoScene.frameCount)
    let length = SceneLatents.step
    let first = Double(window.firstFrame + max(0, length * (frame - 1) + 1)) + 0.5
    let last = frame > 0 ? first + Double(length - 1) : first
    return (first / count, (first + last) / 2 / count, last / count)
  }

  func values(
    _ frame: Int, of window: VideoClips.Window, _ row: Int, _ column: Int
  ) -> [Float] {
    let times = Self.times(frame, of: window)
    return (shape(times, row, column) + setting(times.middle, row, column)).map { Float($0) }
  }

  // MARK: The shape

  /// The shape as seen from a cell near it; 0 far away.
  private func shape(
    _ times: (first: Double, middle: Double, last: Double), _ row: Int, _ column: Int
  ) -> [Double] {
    let side = Double(DemoScene.side)
    let (first, middle, last) = (
      motion.position(times.first), motion.position(times.middle), motion.position(times.last)
    )
    // In pixels, from the center of the cell.
    let x = middle.x * side - (Double(column) + 0.5) * Double(SceneLatents.cell)
    let y = middle.y * side - (Double(row) + 0.5) * Double(SceneLatents.cell)
    let distance = hypot(x, y)
    let nearness = min(1, max(0, (100 - distance) / 30))
    let size = (motion.radius * side - 20) / 7
    let fine = 2 * Double.pi / Double(SceneLatents.cell)
    let seen: [Double] =
      [
        x / 40, y / 40, sin(fine * x), cos(fine * x), sin(fine * y), cos(fine * y),
        (last.x - first.x) * side / 16, (last.y - first.y) * side / 16,
        (middle.x - (first.x + last.x) / 2) * side / 2,
        (middle.y - (first.y + last.y) / 2) * side / 2,
        size,
      ] + Self.corner(scene.shape) + Self.corner(scene.shape).map { $0 * size }
      + Self.color(shades.shape).map { 1.5 * $0 }
    return [
      2 * nearness - 1, 2 * exp(-distance * distance / 1200) - 1,
      2 * exp(-distance * distance / 250) - 1,
    ] + seen.map { nearness * $0 }
  }

  /// A corner of a tetrahedron for each shape, so that all differ equally.
  private static func corner(_ shape: DemoScene.Shape) -> [Double] {
    switch shape {
    case .circle: [1, 1, 1]
    case .square: [1, -1, -1]
    case .triangle: [-1, 1, -1]
    case .star: [-1, -1, 1]
    }
  }

  private static func color(_ shade: DemoShade) -> [Double] {
    [shade.red, shade.green, shade.blue].map { $0 / 127.5 - 1 }
  }

  // MARK: The rest of the picture

  private func setting(_ time: Double, _ row: Int, _ column: Int) -> [Double] {
    let height = (Double(row) + 0.5) / Double(SceneLatents.side)
    let background = Self.color(shades.background(height)).map { 1.5 * $0 }
    let gradient = (shades.bottom.red - shades.top.red) / 12
    let isSketch = scene.style == .sketch
    guard scene.style == .snow else {
      return background + [gradient, isSketch ? 1 : -1, -1, 0, 0, 0]
    }
    // The phase of the falling pattern at the center of the cell.
    let phase = 2 * Double.pi * (snow.start + DemoSnow.fall * time - height) / DemoSnow.tile
    return background + [gradient, -1, 1, cos(phase), sin(phase), column % 2 == 0 ? 1 : -1]
  }
}
