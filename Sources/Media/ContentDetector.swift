/// Finds hard cuts by the mean change of hue, saturation and brightness from one frame to the next.
///
/// PySceneDetect's `ContentDetector` with its default weights (hue, saturation, brightness 1, edges 0), to the bit.
/// Lengths are counted in frames, also where the frame rate varies.
public struct ContentDetector: SceneDetector, Sendable {
  public static let defaultThreshold = 27.0
  public static let defaultMinimumSceneLength = 15

  /// A frame whose score is at least this starts a new scene.
  public let threshold: Double
  /// The change from the frame before, 0 to 255 (hue counts to 180); 0 for the first frame.
  public private(set) var lastScore = 0.0

  private var merger: CutMerger
  private var previous: [UInt8] = []

  /// - Parameter minimumSceneLength: in frames; closer cuts are merged.
  public init(
    threshold: Double = Self.defaultThreshold, minimumSceneLength: Int = Self.defaultMinimumSceneLength
  ) {
    self.threshold = threshold
    merger = CutMerger(minimumLength: minimumSceneLength)
  }

  public mutating func process(_ frame: DetectionFrame) -> [Int] {
    let current = HSV.convert(frame.bytes)
    lastScore = previous.count == current.count ? Self.distance(previous, current) : 0
    previous = current
    let cut = merger.process(frame: frame.index, isAbove: lastScore >= threshold)
    return cut.map { [$0] } ?? []
  }

  /// The mean over the three channels of the mean absolute difference.
  private static func distance(_ a: [UInt8], _ b: [UInt8]) -> Double {
    var sums = (0, 0, 0)
    a.withUnsafeBufferPointer { a in
      b.withUnsafeBufferPointer { b in
        var i = 0
        while i < a.count {
          sums.0 &+= abs(Int(a[i]) &- Int(b[i]))
          sums.1 &+= abs(Int(a[i + 1]) &- Int(b[i + 1]))
          sums.2 &+= abs(Int(a[i + 2]) &- Int(b[i + 2]))
          i += 3
        }
      }
    }
    let pixels = Double(max(1, a.count / 3))
    return (Double(sums.0) / pixels + Double(sums.1) / pixels + Double(sums.2) / pixels) / 3
  }
}

/// OpenCV's conversion of 8-bit RGB to 8-bit HSV (hue 0 to 179), to the bit: fixed point of 12 bits with tables
/// of reciprocals.
enum HSV {
  private static let shift = 12
  private static let saturationScale = reciprocals(of: 255)
  private static let hueScale = reciprocals(of: 30)

  private static func reciprocals(of full: Double) -> [Int] {
    [0] + (1...255).map { Int((full * 4096 / Double($0)).rounded(.toNearestOrEven)) }
  }

  /// - Parameter rgb: pixels of three bytes.
  /// - Returns: hue, saturation, value for each.
  static func convert(_ rgb: [UInt8]) -> [UInt8] {
    let half = 1 << (shift - 1)
    return [UInt8](unsafeUninitializedCapacity: rgb.count) { output, count in
      rgb.withUnsafeBufferPointer { rgb in
        saturationScale.withUnsafeBufferPointer { saturationScale in
          hueScale.withUnsafeBufferPointer { hueScale in
            var i = 0
            while i + 2 < rgb.count {
              let (red, green, blue) = (Int(rgb[i]), Int(rgb[i + 1]), Int(rgb[i + 2]))
              let value = max(red, green, blue)
              let spread = value - min(red, green, blue)
              let sixth: Int
              if value == red {
                sixth = green - blue
              } else if value == green {
                sixth = blue - red + 2 * spread
              } else {
                sixth = red - green + 4 * spread
              }
              let hue = (sixth &* hueScale[spread] &+ half) >> shift
              output[i] = UInt8(truncatingIfNeeded: hue < 0 ? hue + 180 : hue)
              output[i + 1] = UInt8(
                truncatingIfNeeded: (spread &* saturationScale[value] &+ half) >> shift)
              output[i + 2] = UInt8(truncatingIfNeeded: value)
              i += 3
            }
          }
        }
      }
      count = rgb.count
    }
  }
}
