import Foundation

/// The shape in one frame: the visible part of each pixel, from 0 to 1, without anything else that
/// has the shape's color.
struct ShapeMask {
  private let width = DecodedFrames.side
  private let height = DecodedFrames.side
  /// The visible part, row by row.
  private(set) var parts: [Float]
  /// The same before other areas were removed.
  let allParts: [Float]
  private(set) var center = (x: Float(0), y: Float(0))
  /// The sum of the visible parts.
  private(set) var mass: Float = 0
  private(set) var touchesBorder = false

  /// - Returns: Nil if the shape isn't visible.
  init?(
    _ frames: DecodedFrames, frame: Int, _ background: BackgroundEstimate, _ color: ColorEstimate
  ) {
    allParts = Self.parts(frames, frame, background, color)
    parts = allParts
    guard keepLargestArea() else { return nil }
    measure()
    // An eighth of the smallest shape's outline.
    guard mass > Float(DecodedFrames.area) * 0.002 else { return nil }
  }

  private static func parts(
    _ frames: DecodedFrames, _ frame: Int, _ background: BackgroundEstimate,
    _ color: ColorEstimate
  ) -> [Float] {
    let (side, area) = (DecodedFrames.side, DecodedFrames.area)
    var parts = [Float](repeating: 0, count: area)
    // Values are read through pointers because this loop dominates the time of debug builds.
    frames.planes[frame].withUnsafeBufferPointer { buffer in
      guard let values = buffer.baseAddress else { return }
      for row in 0..<side {
        let behind = background.rows[row]
        let chroma = behind.chroma
        let span = color.color - behind
        let length = max(0.001, span.dot(span))
        let (axisX, axisY) = (color.axis.x / color.strength, color.axis.y / color.strength)
        let offset = chroma.x * axisX + chroma.y * axisY
        let sharpOffset = behind.dot(span) / length
        var index = row * side
        let end = index + side
        while index < end {
          let (red, green, blue) = (values[index], values[index + area], values[index + 2 * area])
          let x = -0.169 * red - 0.331 * green + 0.5 * blue
          let y = 0.5 * red - 0.419 * green - 0.081 * blue
          let colorful = x * axisX + y * axisY - offset
          if colorful > 0.1 {
            // Brightness is sharper than chroma, which videos store at half the resolution; chroma
            // tells the shape from flakes and shadows.
            let sharp =
              (red * span.red + green * span.green + blue * span.blue) / length - sharpOffset
            parts[index] = min(1, max(0, min(sharp, 2 * colorful)))
          }
          index += 1
        }
      }
    }
    return parts
  }

  /// Sets everything to 0 but the connected area with the largest sum. Gaps of two pixels do not
  /// separate areas.
  private mutating func keepLargestArea() -> Bool {
    var isNear = [Bool](repeating: false, count: parts.count)
    for row in 0..<height {
      for column in 0..<width where parts[row * width + column] > 0.5 {
        for nearRow in max(0, row - 1)...min(height - 1, row + 1) {
          for nearColumn in max(0, column - 1)...min(width - 1, column + 1) {
            isNear[nearRow * width + nearColumn] = true
          }
        }
      }
    }
    var labels = [Int32](repeating: 0, count: parts.count)
    var (label, best, bestSum) = (Int32(0), Int32(0), Float(0))
    var waiting: [Int] = []
    for start in parts.indices where isNear[start] && labels[start] == 0 {
      label += 1
      var sum: Float = 0
      labels[start] = label
      waiting.append(start)
      while let place = waiting.popLast() {
        sum += parts[place]
        let column = place % width
        for next in [
          column > 0 ? place - 1 : place, column < width - 1 ? place + 1 : place,
          place >= width ? place - width : place,
          place < parts.count - width ? place + width : place,
        ] where isNear[next] && labels[next] == 0 {
          labels[next] = label
          waiting.append(next)
        }
      }
      if sum > bestSum { (best, bestSum) = (label, sum) }
    }
    guard best > 0 else { return false }
    for place in parts.indices where labels[place] != best { parts[place] = 0 }
    return true
  }

  private mutating func measure() {
    var (sumX, sumY): (Float, Float) = (0, 0)
    for row in 0..<height {
      for column in 0..<width {
        let part = parts[row * width + column]
        guard part > 0 else { continue }
        mass += part
        sumX += part * (Float(column) + 0.5)
        sumY += part * (Float(row) + 0.5)
        if part > 0.5, row == 0 || column == 0 || row == height - 1 || column == width - 1 {
          touchesBorder = true
        }
      }
    }
    if mass > 0 { center = (sumX / mass, sumY / mass) }
  }

  /// The visible part at a place between pixels.
  func part(_ x: Float, _ y: Float) -> Float {
    let (left, top) = ((x - 0.5).rounded(.down), (y - 0.5).rounded(.down))
    let (column, row) = (Int(left), Int(top))
    guard column >= 0, row >= 0, column < width - 1, row < height - 1 else { return 0 }
    let (toRight, toBottom) = (x - 0.5 - left, y - 0.5 - top)
    let place = row * width + column
    let above = parts[place] * (1 - toRight) + parts[place + 1] * toRight
    let below = parts[place + width] * (1 - toRight) + parts[place + width + 1] * toRight
    return above * (1 - toBottom) + below * toBottom
  }
}
