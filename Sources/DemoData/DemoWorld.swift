/// The clips of the small world: scene number i is a function of the seed and i.
public struct DemoWorld: Sendable {
  /// Held-out combinations of color, shape, direction and size are never drawn for training.
  public enum Part: String, CaseIterable, Codable, Sendable { case training, heldOut }

  public let seed: UInt64
  public let style: DemoScene.Style
  public let part: Part

  /// - Parameter style: Scenes of equal numbers differ only in the style.
  public init(seed: UInt64, style: DemoScene.Style = .plain, part: Part = .training) {
    self.seed = seed
    self.style = style
    self.part = part
  }

  /// Scene number `index`, from 0.
  public func scene(_ index: Int) -> DemoScene {
    let number = DemoRandom.mix(UInt64(bitPattern: Int64(index)) ^ 0x5851_F42D_4C95_7F2D)
    var random = DemoRandom(seed: seed ^ number, purpose: .scenes)
    let combinations = part == .training ? Combination.training : Combination.heldOut
    let combination = combinations[random.index(below: combinations.count)]
    return DemoScene(
      shape: combination.shape, color: combination.color, size: combination.size,
      direction: combination.direction,
      background: random.pick(DemoScene.Background.allCases, or: .gray), style: style,
      seed: random.next())
  }

  /// Scenes of consecutive numbers.
  public func scenes(_ indices: Range<Int>) -> [DemoScene] { indices.map(scene) }
}

extension DemoScene {
  /// Whether the combination of color, shape, direction and size belongs to the held-out part.
  public var isHeldOut: Bool {
    Combination(shape: shape, color: color, size: size, direction: direction).isHeldOut
  }
}

/// The values that evaluation combines in new ways.
private struct Combination {
  let shape: DemoScene.Shape
  let color: DemoScene.Color
  let size: DemoScene.Size
  let direction: DemoScene.Direction

  /// One combination in eight, chosen by a hash. With this constant, every shape, color, size and
  /// direction is in both parts about equally often.
  var isHeldOut: Bool {
    let places = [
      DemoScene.Shape.allCases.firstIndex(of: shape) ?? 0,
      DemoScene.Color.allCases.firstIndex(of: color) ?? 0,
      DemoScene.Size.allCases.firstIndex(of: size) ?? 0,
      DemoScene.Direction.allCases.firstIndex(of: direction) ?? 0,
    ]
    let number = places.reduce(UInt64(1)) { 8 * $0 + UInt64($1) }
    return DemoRandom.mix(number &* 0x9E37_79B9_7F4A_7C15 &+ Self.salt) % 8 == 0
  }

  private static let salt: UInt64 = 10_959

  static let training = all.filter { !$0.isHeldOut }
  static let heldOut = all.filter(\.isHeldOut)

  private static let all: [Combination] = DemoScene.Shape.allCases.flatMap { shape in
    DemoScene.Color.allCases.flatMap { color in
      DemoScene.Size.allCases.flatMap { size in
        DemoScene.Direction.allCases.map { direction in
          Combination(shape: shape, color: color, size: size, direction: direction)
        }
      }
    }
  }
}
