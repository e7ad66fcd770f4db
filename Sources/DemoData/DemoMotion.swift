import Foundation

/// The path of a scene's shape, in frames: positions and lengths are fractions of the frame's side,
/// y grows downward.
package struct DemoMotion {
  package struct Point: Equatable {
    package var x: Double
    package var y: Double
  }

  private let start: Point
  private let end: Point
  /// The depth of the ease in and out: 0 moves uniformly, 1 starts from rest.
  private let ease: Double
  /// The nominal radius; all shapes of a radius look about equally large.
  package let radius: Double

  package init(_ scene: DemoScene) {
    var random = DemoRandom(seed: scene.seed, purpose: .motion)
    let side = Double(DemoScene.side)
    let isLarge = scene.size == .large
    radius = (isLarge ? random.uniform(24.5, 27.5) : random.uniform(13, 15)) / side
    ease = random.uniform(0.55, 0.85)
    let inset = (isLarge ? random.uniform(28, 34) : random.uniform(17, 22)) / side
    let farInset = (isLarge ? random.uniform(28, 34) : random.uniform(17, 22)) / side
    let lane = 0.5 + (isLarge ? random.uniform(-10, 10) : random.uniform(-22, 22)) / side
    let drift = random.uniform(-3, 3) / side
    let (from, to) = (Point(x: inset, y: lane - drift), Point(x: 1 - farInset, y: lane + drift))
    switch scene.direction {
    case .right: (start, end) = (from, to)
    case .left: (start, end) = (to, from)
    case .down: (start, end) = (Point(x: from.y, y: from.x), Point(x: to.y, y: to.x))
    case .up: (start, end) = (Point(x: to.y, y: to.x), Point(x: from.y, y: from.x))
    }
  }

  /// The covered part of the path, from 0 to 1, at a fraction of the clip's time.
  private func progress(_ time: Double) -> Double {
    time - ease / (2 * .pi) * sin(2 * .pi * time)
  }

  /// The shape's center at a fraction of the clip's time.
  package func position(_ time: Double) -> Point {
    let part = progress(min(1, max(0, time)))
    return Point(x: start.x + (end.x - start.x) * part, y: start.y + (end.y - start.y) * part)
  }

  /// The speed relative to the highest one, above 0.
  func relativeSpeed(_ time: Double) -> Double {
    (1 - ease * cos(2 * .pi * min(1, max(0, time)))) / (1 + ease)
  }

  /// The height above the middle of the path, up positive, in frame heights.
  func rise(_ time: Double) -> Double { (start.y + end.y) / 2 - position(time).y }
}
