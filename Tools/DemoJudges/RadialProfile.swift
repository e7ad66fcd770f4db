import DemoData
import Foundation

/// The distance of a shape's outer boundary from its center in all directions, filled or not.
///
/// The share of its waves tells shapes apart at any size and rotation: a triangle has three per
/// turn, a square four, a star five, a circle none.
struct RadialProfile {
  private static let rays = 72

  /// In pixels, for angles from 0 clockwise.
  let radii: [Float]
  /// The center of the enclosed area.
  let center: (x: Float, y: Float)
  var meanRadius: Float { radii.reduce(0, +) / Float(radii.count) }

  /// - Returns: Nil if less than two thirds of the boundary are visible.
  init?(_ mask: ShapeMask) {
    guard let first = Self.cast(mask, mask.center) else { return nil }
    let middle = Self.centerOfArea(first, around: mask.center)
    guard let second = Self.cast(mask, middle) else { return nil }
    radii = second
    center = middle
  }

  private static func direction(_ ray: Int) -> (x: Float, y: Float) {
    let angle = 2 * Float.pi * Float(ray) / Float(rays)
    return (cos(angle), sin(angle))
  }

  private static func cast(_ mask: ShapeMask, _ center: (x: Float, y: Float)) -> [Float]? {
    let step: Float = 0.5
    // The largest shape reaches a quarter of the frame.
    let limit = Float(DecodedFrames.side) * 0.36
    var radii = (0..<rays).map { ray -> Float in
      let (x, y) = direction(ray)
      var (radius, outer) = (limit, Float(0))
      while radius > 0 {
        let part = mask.part(center.x + x * radius, center.y + y * radius)
        if part >= 0.5 {
          return radius + (part > outer ? step * (part - 0.5) / (part - outer) : 0)
        }
        outer = part
        radius -= step
      }
      return 0
    }
    let found = radii.count { $0 > 0 }
    guard 3 * found >= 2 * rays else { return nil }
    // Gaps of a broken outline get the radius of the nearest rays.
    for ray in radii.indices where radii[ray] == 0 {
      for distance in 1...rays / 2 {
        let sides = [radii[(ray + distance) % rays], radii[(ray + rays - distance) % rays]]
        let known = sides.filter { $0 > 0 }
        guard let first = known.first else { continue }
        radii[ray] = known.count == 2 ? (known[0] + known[1]) / 2 : first
        break
      }
    }
    return radii
  }

  private static func centerOfArea(
    _ radii: [Float], around center: (x: Float, y: Float)
  ) -> (x: Float, y: Float) {
    var (sumX, sumY, area): (Float, Float, Float) = (0, 0, 0)
    for (ray, radius) in radii.enumerated() {
      let (x, y) = direction(ray)
      sumX += x * radius * radius * radius / 3
      sumY += y * radius * radius * radius / 3
      area += radius * radius / 2
    }
    return area > 0 ? (center.x + sumX / area, center.y + sumY / area) : center
  }

  /// The share of a number of waves per turn.
  func share(waves: Int) -> Float { Self.share(radii, waves: waves) }

  private static func share(_ radii: [Float], waves: Int) -> Float {
    var (real, imaginary, sum): (Float, Float, Float) = (0, 0, 0)
    for (ray, radius) in radii.enumerated() {
      let (x, y) = direction(ray * waves % radii.count)
      real += radius * x
      imaginary += radius * y
      sum += radius
    }
    return sum > 0 ? (real * real + imaginary * imaginary).squareRoot() / sum : 0
  }

  /// The corners of shapes with corners: the number of waves, and the share that shows the shape. It
  /// lies between that of a circle and that of a small shape with blurred corners.
  private static let waves: [(shape: DemoScene.Shape, count: Int, limit: Float)] = [
    (.triangle, 3, 0.04), (.square, 4, 0.025), (.star, 5, 0.05),
  ]

  /// The shape whose waves are the clearest over several frames; a circle if none are clear.
  static func shape(_ profiles: [RadialProfile]) -> DemoScene.Shape? {
    guard !profiles.isEmpty else { return nil }
    let clarity = waves.map { wave in
      let shares = profiles.map { $0.share(waves: wave.count) }.sorted()
      return (shape: wave.shape, value: shares[shares.count / 2] / wave.limit)
    }
    guard let best = clarity.max(by: { $0.value < $1.value }) else { return nil }
    return best.value > 1 ? best.shape : .circle
  }
}
