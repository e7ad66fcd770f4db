/// The edges that PySceneDetect's statistics compare: OpenCV's Canny (3x3 Sobel, sum of absolute gradients), with limits
/// a third below and above the median, then thickened by a square.
enum EdgeMap {
  /// - Parameter plane: brightness, [height, width].
  /// - Returns: 255 where there is an edge, else 0; [height, width].
  static func edges(of plane: [UInt8], width: Int, height: Int) -> [UInt8] {
    guard width > 0, height > 0 else { return [] }
    let median = median(of: plane)
    let third = 1.0 / 3.0
    let low = Int(max(0, (1 - third) * median))
    let high = Int(min(255, (1 + third) * median))
    let thin = canny(plane, width: width, height: height, low: low, high: high)
    let size = 4 + Int((Double(width * height).squareRoot() / 192).rounded(.toNearestOrEven))
    return dilate(thin, width: width, height: height, reach: (size | 1) / 2)
  }

  private static func median(of plane: [UInt8]) -> Double {
    var counts = [Int](repeating: 0, count: 256)
    for value in plane { counts[Int(value)] += 1 }
    func value(at place: Int) -> Double {
      var below = 0
      for (value, count) in counts.enumerated() {
        below += count
        if below > place { return Double(value) }
      }
      return 0
    }
    return (value(at: (plane.count - 1) / 2) + value(at: plane.count / 2)) / 2
  }

  private enum Mark: UInt8 { case none, weak, strong }

  private static func canny(_ plane: [UInt8], width: Int, height: Int, low: Int, high: Int) -> [UInt8] {
    let gradients = Gradients(plane, width: width, height: height)
    var marks = [UInt8](repeating: Mark.none.rawValue, count: width * height)
    var waiting: [Int] = []
    for y in 0..<height {
      for x in 0..<width where gradients.isRidge(x, y, above: low) {
        let isStrong = gradients.magnitude(x, y) > high
        marks[y * width + x] = (isStrong ? Mark.strong : Mark.weak).rawValue
        if isStrong { waiting.append(y * width + x) }
      }
    }
    // Weak edges that touch a strong one, in a line, are edges.
    while let place = waiting.popLast() {
      let (x, y) = (place % width, place / width)
      for row in max(0, y - 1)...min(height - 1, y + 1) {
        for column in max(0, x - 1)...min(width - 1, x + 1)
        where marks[row * width + column] == Mark.weak.rawValue {
          marks[row * width + column] = Mark.strong.rawValue
          waiting.append(row * width + column)
        }
      }
    }
    return marks.map { $0 == Mark.strong.rawValue ? 255 : 0 }
  }

  /// The largest value within a square; nothing lies outside of the picture.
  private static func dilate(_ plane: [UInt8], width: Int, height: Int, reach: Int) -> [UInt8] {
    var wide = plane
    var result = plane
    for y in 0..<height {
      for x in 0..<width where plane[y * width + x] != 0 {
        for column in max(0, x - reach)...min(width - 1, x + reach) { wide[y * width + column] = 255 }
      }
    }
    for y in 0..<height {
      for x in 0..<width where wide[y * width + x] != 0 {
        for row in max(0, y - reach)...min(height - 1, y + reach) { result[row * width + x] = 255 }
      }
    }
    return result
  }
}

/// 3x3 Sobel gradients; the picture goes on at its border as its last pixels.
private struct Gradients {
  private let width: Int
  private let height: Int
  private var across: [Int32]
  private var down: [Int32]

  init(_ plane: [UInt8], width: Int, height: Int) {
    self.width = width
    self.height = height
    across = [Int32](repeating: 0, count: width * height)
    down = across
    for y in 0..<height {
      let (above, here, below) = (max(0, y - 1) * width, y * width, min(height - 1, y + 1) * width)
      for x in 0..<width {
        let (left, right) = (max(0, x - 1), min(width - 1, x + 1))
        func value(_ row: Int, _ column: Int) -> Int32 { Int32(plane[row + column]) }
        across[here + x] =
          value(above, right) - value(above, left) + 2 * (value(here, right) - value(here, left))
          + value(below, right) - value(below, left)
        down[here + x] =
          value(below, left) - value(above, left) + 2 * (value(below, x) - value(above, x))
          + value(below, right) - value(above, right)
      }
    }
  }

  /// 0 outside of the picture.
  func magnitude(_ x: Int, _ y: Int) -> Int {
    guard (0..<width).contains(x), (0..<height).contains(y) else { return 0 }
    return Int(abs(across[y * width + x]) + abs(down[y * width + x]))
  }

  /// Whether the gradient is larger than a limit and than those along its direction, which is one of four.
  func isRidge(_ x: Int, _ y: Int, above limit: Int) -> Bool {
    let here = magnitude(x, y)
    guard here > limit else { return false }
    let (dx, dy) = (Int(across[y * width + x]), Int(down[y * width + x]))
    // Tangents of 22.5 and 67.5 degrees in 15 bits.
    let steep = abs(dy) << 15
    let flat = abs(dx) * 13573
    if steep < flat { return here > magnitude(x - 1, y) && here >= magnitude(x + 1, y) }
    if steep > flat + abs(dx) << 16 {
      return here > magnitude(x, y - 1) && here >= magnitude(x, y + 1)
    }
    let step = (dx ^ dy) < 0 ? -1 : 1
    return here > magnitude(x - step, y - 1) && here > magnitude(x + step, y + 1)
  }
}
