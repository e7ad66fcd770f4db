/// Canny edge detection, equal pixel for pixel to OpenCV's `Canny` with a 3x3 Sobel filter and |dx|
/// +
/// |dy| as the gradient's strength.
///
/// Loops run over raw memory, so that a debug build remains usable.
public struct CannyEdges: Equatable, Sendable {
  /// Gradients up to this value are not edges.
  public let low: Int
  /// Gradients above this are edges; those between the two limits are edges if they touch one.
  public let high: Int

  /// Upstream's thresholds.
  public static let defaultLow = 100
  public static let defaultHigh = 200

  /// - Precondition: `0 <= low <= high`.
  public init(low: Int = defaultLow, high: Int = defaultHigh) {
    precondition(0 <= low && low <= high, "thresholds of \(low) and \(high)")
    self.low = low
    self.high = high
  }

  /// Returns white edges on black.
  public func edges(of frame: RGBFrame) -> RGBFrame {
    RGBFrame(
      grays: mask(of: Self.grays(of: frame), width: frame.width, height: frame.height), like: frame)
  }

  /// The gray values that upstream passes to OpenCV: torchvision's `rgb_to_grayscale` in float32 on
  /// values from 0 to 1, times 255, truncated to an integer.
  static func grays(of frame: RGBFrame) -> [UInt8] {
    func products(_ weight: Float) -> [Float] { (0..<256).map { weight * (Float($0) / 255) } }
    let (red, green, blue) = (products(0.2989), products(0.587), products(0.114))
    return frame.grays { bytes, i in
      UInt8((red[Int(bytes[i])] + green[Int(bytes[i + 1])] + blue[Int(bytes[i + 2])]) * 255)
    }
  }

  /// 255 at edges and 0 elsewhere, [height, width].
  func mask(of grays: [UInt8], width: Int, height: Int) -> [UInt8] {
    // All planes have a border of one pixel: replicated edge pixels for the Sobel filter, strength
    // 0 for the comparison with neighbors, and "no edge" for the search.
    let stride = width + 2
    let size = stride * (height + 2)
    return withUnsafeTemporaryAllocation(of: Int32.self, capacity: 4 * size) { memory in
      memory.initialize(repeating: 0)
      guard let start = memory.baseAddress else { return [] }
      var planes = Planes(image: start, stride: stride, size: size, width: width, height: height)
      planes.fill(grays)
      planes.takeGradients()
      planes.markRidges(low: Int32(clamping: low), high: Int32(clamping: high))
      planes.growEdges()
      return planes.edges()
    }
  }
}

/// The intermediate planes of Canny's steps, each with a border of one pixel.
private struct Planes {
  private static let none: Int32 = 0
  private static let candidate: Int32 = 1
  private static let edge: Int32 = 2

  /// Gray values; later the class of each pixel.
  let image: UnsafeMutablePointer<Int32>
  private let dx: UnsafeMutablePointer<Int32>
  private let dy: UnsafeMutablePointer<Int32>
  private let strength: UnsafeMutablePointer<Int32>
  private let stride: Int
  private let size: Int
  private let width: Int
  private let height: Int
  private var found: [Int] = []

  init(image: UnsafeMutablePointer<Int32>, stride: Int, size: Int, width: Int, height: Int) {
    self.image = image
    dx = image + size
    dy = dx + size
    strength = dy + size
    self.stride = stride
    self.size = size
    self.width = width
    self.height = height
  }

  func fill(_ grays: [UInt8]) {
    grays.withUnsafeBufferPointer { grays in
      guard var from = grays.baseAddress else { return }
      var row = image + stride
      var y = 0
      while y < height {
        var x = 0
        while x < width {
          row[x &+ 1] = Int32(from[x])
          x &+= 1
        }
        row[0] = row[1]
        row[width + 1] = row[width]
        from += width
        row += stride
        y &+= 1
      }
    }
    image.update(from: image + stride, count: stride)
    let last = image + stride * height
    (last + stride).update(from: last, count: stride)
  }

  func takeGradients() {
    var y = 1
    while y <= height {
      var i = y &* stride &+ 1
      let end = i &+ width
      while i < end {
        let (up, down) = (i &- stride, i &+ stride)
        let (upLeft, upRight) = (image[up &- 1], image[up &+ 1])
        let (downLeft, downRight) = (image[down &- 1], image[down &+ 1])
        let horizontal =
          upRight &- upLeft &+ 2 &* (image[i &+ 1] &- image[i &- 1]) &+ downRight &- downLeft
        let vertical = downLeft &- upLeft &+ 2 &* (image[down] &- image[up]) &+ downRight &- upRight
        dx[i] = horizontal
        dy[i] = vertical
        strength[i] =
          (horizontal < 0 ? 0 &- horizontal : horizontal)
          &+ (vertical < 0 ? 0 &- vertical : vertical)
        i &+= 1
      }
      y &+= 1
    }
  }

  /// Marks pixels that are stronger than their neighbors across the edge, in one of four
  /// directions. Overwrites the gray values.
  mutating func markRidges(low: Int32, high: Int32) {
    image.update(repeating: Self.none, count: size)
    let tangent: Int32 = 13573  // tan 22.5° in units of 2^-15
    var y = 1
    while y <= height {
      var i = y &* stride &+ 1
      let end = i &+ width
      while i < end {
        let own = strength[i]
        if own > low {
          let (x, y) = (dx[i], dy[i])
          let wide = x < 0 ? 0 &- x : x
          let high15 = (y < 0 ? 0 &- y : y) &<< 15
          let shallow = wide &* tangent
          let isRidge: Bool
          if high15 < shallow {
            isRidge = own > strength[i &- 1] && own >= strength[i &+ 1]
          } else if high15 > shallow &+ (wide &<< 16) {  // tan 67.5° = tan 22.5° + 2
            isRidge = own > strength[i &- stride] && own >= strength[i &+ stride]
          } else {
            let step = (x ^ y) < 0 ? stride &- 1 : stride &+ 1
            isRidge = own > strength[i &- step] && own > strength[i &+ step]
          }
          if isRidge {
            if own > high {
              image[i] = Self.edge
              found.append(i)
            } else {
              image[i] = Self.candidate
            }
          }
        }
        i &+= 1
      }
      y &+= 1
    }
  }

  /// Turns candidates that touch an edge into edges.
  mutating func growEdges() {
    let around = [-stride - 1, -stride, -stride + 1, -1, 1, stride - 1, stride, stride + 1]
    while let i = found.popLast() {
      for step in around where image[i + step] == Self.candidate {
        image[i + step] = Self.edge
        found.append(i + step)
      }
    }
  }

  package func edges() -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: width * height) { buffer, count in
      count = width * height
      guard var to = buffer.baseAddress else { return }
      var row = image + stride + 1
      var y = 0
      while y < height {
        var x = 0
        while x < width {
          to[x] = row[x] == Self.edge ? 255 : 0
          x &+= 1
        }
        to += width
        row += stride
        y &+= 1
      }
    }
  }
}
