import Foundation

/// Shrinks frames for scene detection to 256 pixels on the longer side, as PySceneDetect does; smaller frames stay.
///
/// The arithmetic is OpenCV's `INTER_LINEAR` for 8 bits, to the bit: two neighbours each way without smoothing,
/// weights of 11 bits, and the roundings of its vector code.
struct FrameShrinker {
  /// For every target pixel: the source pixel, the one after it, and their weights out of 2048.
  struct Axis {
    var first: [Int] = []
    var second: [Int] = []
    var firstWeight: [Int32] = []
    var secondWeight: [Int32] = []

    init(from source: Int, to target: Int) {
      let scale = Double(source) / Double(target)
      for i in 0..<target {
        let place = Float((Double(i) + 0.5) * scale - 0.5)
        var left = Int(place.rounded(.down))
        var fraction = place - Float(left)
        if left < 0 { (left, fraction) = (0, 0) }
        if left >= source - 1 { (left, fraction) = (source - 1, 0) }
        first.append(left)
        second.append(min(left + 1, source - 1))
        firstWeight.append(Int32(((1 - fraction) * 2048).rounded(.toNearestOrEven)))
        secondWeight.append(Int32((fraction * 2048).rounded(.toNearestOrEven)))
      }
    }
  }

  static let longerSide = 256

  let width: Int
  let height: Int
  private let columns: Axis
  private let rows: Axis
  private let shrinks: Bool

  init(width: Int, height: Int) {
    let factor = Double(max(width, height)) / Double(Self.longerSide)
    shrinks = factor > 1
    self.width = shrinks ? max(1, Int((Double(width) / factor).rounded(.toNearestOrEven))) : width
    self.height = shrinks ? max(1, Int((Double(height) / factor).rounded(.toNearestOrEven))) : height
    columns = Axis(from: width, to: self.width)
    rows = Axis(from: height, to: self.height)
  }

  func shrink(_ frame: RGBFrame) -> DetectionFrame {
    guard shrinks else {
      return DetectionFrame(index: frame.index, width: width, height: height, bytes: frame.bytes)
    }
    let stride = 3 * frame.width
    var upper = [Int32](repeating: 0, count: 3 * width)
    var lower = upper
    let bytes = [UInt8](unsafeUninitializedCapacity: 3 * width * height) { output, count in
      frame.bytes.withUnsafeBufferPointer { source in
        for y in 0..<height {
          fillRow(&upper, source, at: rows.first[y] * stride)
          fillRow(&lower, source, at: rows.second[y] * stride)
          let (above, below) = (rows.firstWeight[y], rows.secondWeight[y])
          let target = 3 * width * y
          for x in 0..<(3 * width) {
            let sum = ((above &* (upper[x] >> 4)) >> 16) &+ ((below &* (lower[x] >> 4)) >> 16)
            output[target + x] = UInt8(truncatingIfNeeded: min(255, (sum &+ 2) >> 2))
          }
        }
      }
      count = 3 * width * height
    }
    return DetectionFrame(index: frame.index, width: width, height: height, bytes: bytes)
  }

  private func fillRow(_ row: inout [Int32], _ source: UnsafeBufferPointer<UInt8>, at start: Int) {
    for x in 0..<width {
      let (left, right) = (start + 3 * columns.first[x], start + 3 * columns.second[x])
      let (a, b) = (columns.firstWeight[x], columns.secondWeight[x])
      for channel in 0..<3 {
        row[3 * x + channel] = Int32(source[left + channel]) &* a &+ Int32(source[right + channel]) &* b
      }
    }
  }
}
