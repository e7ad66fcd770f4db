import DemoData
import Foundation

/// The color of the moving shape of a clip: the direction in which the chroma of the most colorful
/// pixels differs from the background's. Brightness, white flakes and blended edges do not matter.
struct ColorEstimate {
  /// A pixel's chroma difference along this unit vector says how much of the shape it shows.
  let axis: Chroma
  /// The difference of pixels that show the shape only.
  let strength: Float
  /// The mean color of such pixels.
  let color: RGB

  /// A smaller chroma difference is noise.
  private static let noise: Float = 0.11
  private static let bins = 72

  /// - Returns: Nil if nothing in the clip has a color of its own.
  init?(_ frames: DecodedFrames, _ background: BackgroundEstimate) {
    let indices = frames.spread(7)
    let chroma = background.rows.map(\.chroma)
    var weights = [Float](repeating: 0, count: Self.bins)
    Self.visit(frames, indices) { row, pixel in
      let difference = pixel.chroma - chroma[row]
      let square = difference.square
      guard square > Self.noise * Self.noise else { return }
      let turn = (atan2(difference.y, difference.x) / (2 * .pi) + 1) * Float(Self.bins)
      weights[Int(turn) % Self.bins] += square
    }
    let smooth = weights.indices.map { bin in
      (-2...2).reduce(Float(0)) { $0 + weights[(bin + $1 + Self.bins) % Self.bins] }
    }
    guard let peak = smooth.indices.max(by: { smooth[$0] < smooth[$1] }), smooth[peak] > 0 else {
      return nil
    }
    let angle = (Float(peak) + 0.5) / Float(Self.bins) * 2 * .pi
    let first = Chroma(x: cos(angle), y: sin(angle))

    // The strength of the most colorful pixels along the axis, as many as the smallest shape has.
    var values: [Float] = []
    var visited = 0
    Self.visit(frames, indices) { row, pixel in
      let difference = pixel.chroma - chroma[row]
      let along = difference.x * first.x + difference.y * first.y
      visited += 1
      if along > Self.noise { values.append(along) }
    }
    let highest = values.sorted().suffix(max(1, visited / 150))
    guard !highest.isEmpty else { return nil }
    let top = highest.reduce(0, +) / Float(highest.count)

    var (total, weight) = (RGB(red: 0, green: 0, blue: 0), Float(0))
    var vector = Chroma(x: 0, y: 0)
    Self.visit(frames, indices) { row, pixel in
      let difference = pixel.chroma - chroma[row]
      guard difference.x * first.x + difference.y * first.y > 0.75 * top else { return }
      total.red += pixel.red
      total.green += pixel.green
      total.blue += pixel.blue
      vector.x += difference.x
      vector.y += difference.y
      weight += 1
    }
    guard weight > 0, vector.square > 0 else { return nil }
    let length = vector.square.squareRoot()
    axis = Chroma(x: vector.x / length, y: vector.y / length)
    strength = top
    color = RGB(red: total.red / weight, green: total.green / weight, blue: total.blue / weight)
  }

  /// Visits a quarter of the pixels, which are enough for averages.
  private static func visit(
    _ frames: DecodedFrames, _ indices: [Int], _ body: (_ row: Int, _ pixel: RGB) -> Void
  ) {
    for frame in indices { frames.visit(frame, step: 2, body) }
  }

  /// The color of the world whose hue is the nearest, as seen against this background.
  func nearest(_ background: BackgroundEstimate) -> DemoScene.Color? {
    let behind = background.mean.chroma
    let similarity = { (color: DemoScene.Color) -> Float in
      let difference = RGB(color.shade).chroma - behind
      let length = difference.square.squareRoot()
      guard length > 0 else { return -1 }
      return (difference.x * axis.x + difference.y * axis.y) / length
    }
    return DemoScene.Color.allCases.max { similarity($0) < similarity($1) }
  }
}
