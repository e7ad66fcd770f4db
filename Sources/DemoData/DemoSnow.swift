/// The falling flakes of a scene: a pattern that moves down at one speed and enters again at the
/// top. Few and regular flakes remain visible in small latents.
struct DemoSnow {
  struct Flake {
    /// Fractions of the frame's side.
    let x: Double
    let y: Double
    let radius: Double
  }

  private let start: [Flake]
  /// The distance that flakes fall during the clip.
  private let fall: Double

  /// One flake in each of 5 x 5 cells.
  private static let cells = 5

  init(_ scene: DemoScene) {
    var random = DemoRandom(seed: scene.seed, purpose: .snow)
    fall = random.uniform(0.35, 0.5)
    start = (0..<Self.cells * Self.cells).map { index in
      let (row, column) = (index / Self.cells, index % Self.cells)
      return Flake(
        x: (Double(column) + random.uniform(0.15, 0.85)) / Double(Self.cells),
        y: (Double(row) + random.uniform(0.15, 0.85)) / Double(Self.cells),
        radius: random.uniform(1.6, 2.3) / Double(DemoScene.side))
    }
  }

  /// The flakes at a fraction of the clip's time.
  func flakes(_ time: Double) -> [Flake] {
    start.map { flake in
      let y = flake.y + fall * time
      return Flake(x: flake.x, y: y - y.rounded(.down), radius: flake.radius)
    }
  }
}
