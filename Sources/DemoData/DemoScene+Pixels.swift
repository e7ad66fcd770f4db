extension DemoScene {
  /// Draws a frame.
  ///
  /// - Parameters:
  ///   - frame: The index of the frame.
  ///   - count: The number of frames of the clip; the motion always fills the clip.
  /// - Returns: RGB24, row by row. The drawing is scaled to the shorter side and centered.
  public func pixels(
    frame: Int, of count: Int = frameCount, width: Int = side, height: Int = side
  ) -> [UInt8] {
    guard width > 0, height > 0 else { return [] }
    var canvas = DemoCanvas(width: width, height: height)
    let shades = DemoShades(self)
    canvas.fill(shades, hasGrain: style == .sketch)
    // The middle of the time during which the frame is shown.
    let time = (Double(frame) + 0.5) / Double(max(1, count))
    let motion = DemoMotion(self)
    let position = motion.position(time)
    let unit = canvas.unit
    let outline = DemoOutline(
      shape, center: canvas.place(position.x, position.y), radius: motion.radius * unit,
      lineWidth: style == .sketch ? 4.2 / 128 * unit : nil,
      height: height)
    canvas.draw(outline, shades.shape)
    if style == .snow { canvas.draw(DemoSnow(self), time) }
    return canvas.bytes
  }
}

/// RGB24 pixels that are drawn on.
struct DemoCanvas {
  let width: Int
  let height: Int
  private(set) var bytes: [UInt8] = []
  /// The background of each row.
  private var rows: [DemoShade] = []
  /// The length of the world's side in pixels.
  var unit: Double { Double(min(width, height)) }

  init(width: Int, height: Int) { (self.width, self.height) = (width, height) }

  /// The pixel coordinates of a position in the world.
  func place(_ x: Double, _ y: Double) -> DemoMotion.Point {
    DemoMotion.Point(
      x: Double(width) / 2 + (x - 0.5) * unit, y: Double(height) / 2 + (y - 0.5) * unit)
  }

  /// - Parameter hasGrain: Adds the fibers of paper, which do not move.
  mutating func fill(_ shades: DemoShades, hasGrain: Bool) {
    bytes.reserveCapacity(3 * width * height)
    for row in 0..<height {
      let color = shades.background((Double(row) + 0.5) / Double(height))
      rows.append(color)
      if hasGrain {
        bytes += DemoGrain.line(color, row: row + shades.grain.y, column: shades.grain.x, width)
        continue
      }
      var line = Self.bytes(color)
      line.reserveCapacity(3 * width)
      // Copies what is there, doubling it, because loops over pixels are slow in debug builds.
      while line.count < 3 * width { line += line.prefix(3 * width - line.count) }
      bytes += line
    }
  }

  /// Draws on the background only, so that pixels need not be read.
  mutating func draw(_ outline: DemoOutline, _ color: DemoShade) {
    var coverage = [Float](repeating: 0, count: width)
    let full = Self.bytes(color)
    bytes.withUnsafeMutableBufferPointer { bytes in
      for row in outline.rows {
        for column in outline.cover(row: row, &coverage) {
          let part = Double(coverage[column])
          guard part > 0 else { continue }
          coverage[column] = 0
          let place = 3 * (row * width + column)
          let pixel = part > 0.999 ? full : Self.bytes(rows[row].blended(with: color, part))
          bytes[place] = pixel[0]
          bytes[place + 1] = pixel[1]
          bytes[place + 2] = pixel[2]
        }
      }
    }
  }

  mutating func draw(_ snow: DemoSnow, _ time: Double) {
    for flake in snow.flakes(time) {
      let center = place(flake.x, flake.y)
      let radius = flake.radius * unit
      let reach = radius + 1
      let rows = Self.range(center.y, reach, below: height)
      for row in rows {
        for column in Self.range(center.x, reach, below: width) {
          let (dx, dy) = (Double(column) + 0.5 - center.x, Double(row) + 0.5 - center.y)
          // A soft edge of two pixels.
          let coverage = (radius + 1 - (dx * dx + dy * dy).squareRoot()) / 2
          blend(.snow, min(1, max(0, coverage)), column, row)
        }
      }
    }
  }

  private static func range(_ center: Double, _ reach: Double, below limit: Int) -> Range<Int> {
    let first = min(limit, max(0, Int((center - reach).rounded(.down))))
    return first..<max(first, min(limit, Int((center + reach).rounded(.up))))
  }

  private mutating func blend(_ color: DemoShade, _ part: Double, _ column: Int, _ row: Int) {
    guard part > 0 else { return }
    let place = 3 * (row * width + column)
    let behind = DemoShade(
      Double(bytes[place]), Double(bytes[place + 1]), Double(bytes[place + 2]))
    bytes.replaceSubrange(place..<place + 3, with: Self.bytes(behind.blended(with: color, part)))
  }

  private static func bytes(_ color: DemoShade) -> [UInt8] {
    [UInt8(color.red + 0.5), UInt8(color.green + 0.5), UInt8(color.blue + 0.5)]
  }
}

/// The grain of the paper, one tile for all sketches.
private enum DemoGrain {
  private static let side = 128

  /// Fibers about two pixels wide, with a standard deviation of about 3.
  private static let levels: [Double] = {
    var random = DemoRandom(seed: 0, purpose: .grain)
    let noise = (0..<side * side).map { _ in random.uniform(-12, 12) }
    return (0..<side * side).map { place in
      let (row, column) = (place / side, place % side)
      let right = (column + 1) % side
      let below = (row + 1) % side * side
      let sum =
        noise[row * side + column] + noise[row * side + right] + noise[below + column]
        + noise[below + right]
      return sum / 4
    }
  }()

  /// A row of paper.
  static func line(_ color: DemoShade, row: Int, column: Int, _ width: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: 3 * width) { bytes, count in
      count = 3 * width
      guard let bytes = bytes.baseAddress else { return }
      levels.withUnsafeBufferPointer { buffer in
        guard let levels = buffer.baseAddress else { return }
        let start = row % side * side
        // A counted loop, which is faster in debug builds than one over a range.
        var index = 0
        while index < width {
          let level = levels[start + (index + column) % side] + 0.5
          bytes[3 * index] = UInt8(min(255, max(0, color.red + level)))
          bytes[3 * index + 1] = UInt8(min(255, max(0, color.green + level)))
          bytes[3 * index + 2] = UInt8(min(255, max(0, color.blue + level)))
          index += 1
        }
      }
    }
  }
}
