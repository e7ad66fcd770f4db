/// The falling flakes of a scene: one pattern for all scenes, which moves down at one speed and
/// enters again at the top. Few and regular flakes remain visible in small latents.
package struct DemoSnow {
  struct Flake {
    /// Fractions of the frame's side.
    let x: Double
    let y: Double
    let radius: Double
  }

  /// The side of the pattern's square tile.
  package static let tile = 0.5
  /// The distance that flakes fall during a clip: once through the tile.
  package static let fall = 0.5

  /// The distance that the pattern has fallen at the beginning of the clip, below `tile`.
  package let start: Double

  package init(_ scene: DemoScene) {
    var random = DemoRandom(seed: scene.seed, purpose: .snow)
    start = random.uniform(0, Self.tile)
  }

  /// The flakes of a tile: places in pixels of a frame of 128 pixels.
  private static let pattern: [(x: Double, y: Double, radius: Double)] = [
    (9, 6, 2.2), (31, 17, 1.7), (51, 4, 1.9), (16, 35, 1.8), (56, 29, 2.3), (37, 52, 2.0),
  ]

  /// The flakes at a fraction of the clip's time.
  func flakes(_ time: Double) -> [Flake] {
    let side = Double(DemoScene.side)
    let offset = start + Self.fall * time
    return Self.pattern.flatMap { flake in
      (0..<4).map { part in
        let y = flake.y / side + offset + Double(part / 2) * Self.tile
        return Flake(
          x: flake.x / side + Double(part % 2) * Self.tile, y: y - y.rounded(.down),
          radius: flake.radius / side)
      }
    }
  }
}
