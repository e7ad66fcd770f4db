/// A color of the world, each channel from 0 to 255.
public struct DemoShade: Sendable, Equatable {
  public var red: Double
  public var green: Double
  public var blue: Double

  public init(_ red: Double, _ green: Double, _ blue: Double) {
    (self.red, self.green, self.blue) = (red, green, blue)
  }

  func scaled(_ factor: Double) -> DemoShade {
    DemoShade(min(255, red * factor), min(255, green * factor), min(255, blue * factor))
  }

  func blended(with other: DemoShade, _ part: Double) -> DemoShade {
    DemoShade(
      red + (other.red - red) * part, green + (other.green - green) * part,
      blue + (other.blue - blue) * part)
  }

  func raised(_ level: Double) -> DemoShade {
    let clamped = { (value: Double) in min(255, max(0, value + level)) }
    return DemoShade(clamped(red), clamped(green), clamped(blue))
  }
}

extension DemoScene.Color {
  /// The color of shapes before its small variation. Hues are at least 25 degrees apart.
  public var shade: DemoShade {
    switch self {
    case .red: DemoShade(225, 25, 45)
    case .green: DemoShade(30, 180, 60)
    case .blue: DemoShade(30, 90, 250)
    case .yellow: DemoShade(245, 232, 25)
    case .purple: DemoShade(165, 40, 210)
    case .orange: DemoShade(255, 120, 0)
    }
  }
}

extension DemoScene.Background {
  /// The color in the middle of the gradient.
  public var shade: DemoShade {
    switch self {
    case .black: DemoShade(18, 18, 20)
    case .gray: DemoShade(118, 119, 122)
    case .navy: DemoShade(24, 32, 62)
    case .beige: DemoShade(190, 174, 144)
    }
  }
}

extension DemoShade {
  /// The paper of sketches in front of a background. Cool paper stands for dark backgrounds and
  /// warm paper for light ones, so that cuts between sketches can be found. Both are darker than
  /// white, so that snow shows on them.
  public static func paper(for background: DemoScene.Background) -> DemoShade {
    switch background {
    case .black, .navy: DemoShade(208, 219, 232)
    case .gray, .beige: DemoShade(231, 222, 202)
    }
  }
  /// The flakes of snow.
  public static let snow = DemoShade(252, 252, 255)
}

/// The exact colors of a scene.
package struct DemoShades {
  package let shape: DemoShade
  package let top: DemoShade
  package let bottom: DemoShade
  /// The position of the paper's grain.
  let grain: (x: Int, y: Int)

  package init(_ scene: DemoScene) {
    var random = DemoRandom(seed: scene.seed, purpose: .shades)
    let isSketch = scene.style == .sketch
    shape = scene.color.shade.scaled(random.uniform(0.94, 1.04) * (isSketch ? 0.85 : 1))
    let middle = isSketch ? .paper(for: scene.background) : scene.background.shade
    let difference = random.uniform(4, 9) * (random.happens(0.5) ? 1 : -1) * (isSketch ? 0.4 : 1)
    let level = random.uniform(-3, 3)
    top = middle.raised(level + difference)
    bottom = middle.raised(level - difference)
    grain = (random.index(below: 128), random.index(below: 128))
  }

  /// The background at a height, from 0 (top) to 1.
  package func background(_ height: Double) -> DemoShade {
    DemoShade(
      top.red + (bottom.red - top.red) * height,
      top.green + (bottom.green - top.green) * height,
      top.blue + (bottom.blue - top.blue) * height)
  }
}
