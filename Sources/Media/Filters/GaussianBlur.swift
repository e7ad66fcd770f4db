import Foundation

/// A Gaussian blur like OpenCV's 8-bit `GaussianBlur` with a sigma and no size: a window of 6 sigma
/// + 1 pixels, rounded to an odd number, and a border that mirrors the image at its outermost
/// pixels. The sums are float32; OpenCV's fixed-point sums differ by a level or two.
public struct GaussianBlur: Equatable, Sendable {
  /// The standard deviation in pixels.
  public let sigma: Double
  /// The weights from the middle outward; the whole window adds up to 1.
  private let weights: [Float]

  public static let sigmas = 0.1...256.0

  /// - Precondition: `sigma` is in `sigmas`.
  public init(sigma: Double) {
    precondition(Self.sigmas.contains(sigma), "a sigma of \(sigma)")
    self.sigma = sigma
    let size = Int((6 * sigma + 1).rounded(.toNearestOrEven)) | 1
    let values = (0...(size / 2)).map { exp(-Double($0 * $0) / (2 * sigma * sigma)) }
    let sum = values[0] + 2 * values.dropFirst().reduce(0, +)
    weights = values.map { Float($0 / sum) }
  }

  public func blurred(_ frame: RGBFrame) -> RGBFrame {
    let (width, height) = (frame.width, frame.height)
    let row = 3 * width
    let source = frame.bytes.map { Float($0) }
    let columns = Self.neighbors(width, reach: weights.count - 1, step: 3)
    let rows = Self.neighbors(height, reach: weights.count - 1, step: row)
    var across = [Float](repeating: 0, count: row * height)
    let bytes = [UInt8](unsafeUninitializedCapacity: row * height) { output, count in
      count = row * height
      source.withUnsafeBufferPointer { source in
        across.withUnsafeMutableBufferPointer { across in
          guard let source = source.baseAddress, let sums = across.baseAddress,
            let output = output.baseAddress
          else { return }
          for y in 0..<height {
            sumAlongRow(source + y * row, into: sums + y * row, width, columns)
          }
          for y in 0..<height { sumOverRows(sums, y, row, rows, into: output + y * row) }
        }
      }
    }
    return RGBFrame(
      bytes: bytes, width: width, height: height, index: frame.index, seconds: frame.seconds)
  }

  /// The indices of pixels `-reach ..< count + reach`, mirrored at the first and the last one.
  private static func neighbors(_ count: Int, reach: Int, step: Int) -> [Int] {
    let period = max(1, 2 * (count - 1))
    return (-reach..<(count + reach)).map { place in
      let folded = ((place % period) + period) % period
      return step * (count == 1 ? 0 : min(folded, period - folded))
    }
  }

  private func sumAlongRow(
    _ from: UnsafePointer<Float>, into to: UnsafeMutablePointer<Float>, _ width: Int,
    _ columns: [Int]
  ) {
    let reach = weights.count - 1
    weights.withUnsafeBufferPointer { weights in
      columns.withUnsafeBufferPointer { columns in
        var x = 0
        while x < width {
          let own = columns[x &+ reach]
          var (red, green, blue) = (
            weights[0] * from[own], weights[0] * from[own &+ 1], weights[0] * from[own &+ 2]
          )
          var k = 1
          while k <= reach {
            let (left, right, weight) = (
              columns[x &+ reach &- k], columns[x &+ reach &+ k], weights[k]
            )
            red += weight * (from[left] + from[right])
            green += weight * (from[left &+ 1] + from[right &+ 1])
            blue += weight * (from[left &+ 2] + from[right &+ 2])
            k &+= 1
          }
          to[3 &* x] = red
          to[3 &* x &+ 1] = green
          to[3 &* x &+ 2] = blue
          x &+= 1
        }
      }
    }
  }

  private func sumOverRows(
    _ sums: UnsafePointer<Float>, _ y: Int, _ row: Int, _ rows: [Int],
    into to: UnsafeMutablePointer<UInt8>
  ) {
    let reach = weights.count - 1
    withUnsafeTemporaryAllocation(of: Float.self, capacity: row) { total in
      guard let total = total.baseAddress else { return }
      let own = sums + rows[y + reach]
      let middle = weights[0]
      var x = 0
      while x < row {
        total[x] = middle * own[x]
        x &+= 1
      }
      for k in 1..<weights.count {
        let (above, below) = (sums + rows[y + reach - k], sums + rows[y + reach + k])
        let weight = weights[k]
        x = 0
        while x < row {
          total[x] += weight * (above[x] + below[x])
          x &+= 1
        }
      }
      x = 0
      while x < row {
        to[x] = UInt8(min(255, max(0, total[x].rounded())))
        x &+= 1
      }
    }
  }
}
