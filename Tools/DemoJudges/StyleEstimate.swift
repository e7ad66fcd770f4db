import DemoData

/// How much a clip looks like a style: 0 on average for plain clips, about 1 for the style itself.
enum StyleEstimate {
  /// Half of the value is the paper, half the empty inside of the shape.
  static func sketch(
    _ background: BackgroundEstimate, _ shapes: [(mask: ShapeMask, profile: RadialProfile)]
  ) -> Double {
    let insides = shapes.map { inside($0.mask, $0.profile) }.sorted()
    let empty = insides.isEmpty ? 0 : 1 - insides[insides.count / 2]
    return Double(paper(background.mean) + empty) / 2
  }

  /// How near a background is to paper: 1 for paper, and 0 on average for plain backgrounds, of which
  /// light ones have more and dark ones less.
  private static func paper(_ mean: RGB) -> Float {
    let kinds = DemoScene.Background.allCases
    func distance(_ color: RGB) -> Float {
      let squares = kinds.map { kind in
        let difference = color - RGB(.paper(for: kind))
        return difference.dot(difference)
      }
      return (squares.min() ?? 0).squareRoot()
    }
    let plain = kinds.map { distance(RGB($0.shade)) }.reduce(0, +) / Float(kinds.count)
    return 1 - distance(mean) / plain
  }

  /// The visible part of the shape's color in the middle of the shape.
  private static func inside(_ mask: ShapeMask, _ profile: RadialProfile) -> Float {
    let reach = max(1.5, 0.3 * profile.meanRadius)
    var (sum, count): (Float, Float) = (0, 0)
    for row in rows(profile.center.y, reach, DecodedFrames.side) {
      for column in rows(profile.center.x, reach, DecodedFrames.side) {
        let x = Float(column) + 0.5 - profile.center.x
        let y = Float(row) + 0.5 - profile.center.y
        guard x * x + y * y <= reach * reach else { continue }
        sum += mask.allParts[row * DecodedFrames.side + column]
        count += 1
      }
    }
    return count > 0 ? sum / count : 0
  }

  private static func rows(_ center: Float, _ reach: Float, _ limit: Int) -> Range<Int> {
    let first = max(0, Int(center - reach))
    return first..<max(first, min(limit, Int(center + reach) + 1))
  }

  /// The area of small white specks that move, relative to that of real snow.
  ///
  /// - Parameter shapes: The shape in each of the frames, whose inside is not counted.
  static func snow(
    _ frames: DecodedFrames, _ shapes: [(frame: Int, profile: RadialProfile?)]
  ) -> Double {
    guard shapes.count > 1 else { return 0 }
    let specks = shapes.map { Self.specks(frames, $0.frame, $0.profile) }
    var brightest = specks[0]
    for speck in specks.dropFirst() { brightest.combine(speck) { $1 > $0 } }
    var sum: Float = 0
    var place = 0
    while place < DecodedFrames.area {
      if brightest.values[place] > 0.15 {
        let values = specks.map { $0.values[place] }.sorted()
        // A pixel that is bright in most frames is not snow.
        let level = values[values.count / 2] + 0.15
        for value in values where value > level { sum += min(0.6, value - level) }
      }
      place += 1
    }
    return Double(sum) / Double(DecodedFrames.area * specks.count) / usualSnow
  }

  /// The mean of snow in drawn clips.
  private static let usualSnow = 0.01

  /// The whiteness of specks that are narrower than 7 pixels, relative to what is possible on
  /// their background.
  private static func specks(
    _ frames: DecodedFrames, _ frame: Int, _ profile: RadialProfile?
  ) -> Plane {
    let side = DecodedFrames.side
    let whiteness = Plane(whitenessOf: frames.planes[frame])
    // Nothing white that is narrower than the window survives this.
    let opened = whiteness.extremes { $1 < $0 }.extremes { $1 > $0 }
    let limit = profile.map { 1.5 * $0.meanRadius } ?? 0
    let center = profile?.center ?? (x: 0, y: 0)
    var specks = Plane()
    for row in Plane.reach..<side - Plane.reach {
      var place = row * side + Plane.reach
      let end = (row + 1) * side - Plane.reach
      while place < end {
        let height = whiteness.values[place] - opened.values[place]
        let room = 1 - opened.values[place]
        if height > 0.1 * room, room > 0.15 {
          let x = Float(place - row * side) + 0.5 - center.x
          let y = Float(row) + 0.5 - center.y
          if x * x + y * y >= limit * limit { specks.values[place] = height / room }
        }
        place += 1
      }
    }
    return specks
  }
}

/// One value for each pixel of a frame.
private struct Plane {
  /// The distance from the middle to the border of windows.
  static let reach = 3

  var values: [Float]

  init() { values = [Float](repeating: 0, count: DecodedFrames.area) }

  /// The smallest channel of each pixel.
  init(whitenessOf planes: [Float]) {
    self.init()
    combine(Array(planes[..<DecodedFrames.area])) { _, _ in true }
    combine(Array(planes[DecodedFrames.area..<2 * DecodedFrames.area])) { $1 < $0 }
    combine(Array(planes[(2 * DecodedFrames.area)...])) { $1 < $0 }
  }

  mutating func combine(_ other: Plane, _ isBetter: (Float, Float) -> Bool) {
    combine(other.values, isBetter)
  }

  private mutating func combine(_ other: [Float], _ isBetter: (Float, Float) -> Bool) {
    var place = 0
    while place < DecodedFrames.area {
      if isBetter(values[place], other[place]) { values[place] = other[place] }
      place += 1
    }
  }

  /// The best value of each window of 7 x 7 pixels. Pixels near the border get those of shifted
  /// windows.
  func extremes(_ isBetter: (Float, Float) -> Bool) -> Plane {
    var result = self
    for step in [1, DecodedFrames.side] {
      // Windows of 2, 4 and 7 values; then they are centered.
      for shift in [1, 2, 3] {
        let last = DecodedFrames.area - shift * step
        var place = 0
        result.values.withUnsafeMutableBufferPointer { buffer in
          guard let values = buffer.baseAddress else { return }
          while place < last {
            let other = values[place + shift * step]
            if isBetter(values[place], other) { values[place] = other }
            place += 1
          }
        }
      }
      result.values =
        Array(
          repeating: result.values[0], count: Self.reach * step)
        + result.values.dropLast(Self.reach * step)
    }
    return result
  }
}
