import Support

/// The sizes that images are scaled to, and the frames that are taken from a clip
/// (`transformers`, `models/qwen2_vl`).
public struct ImageSizes: Sendable, Equatable {
  /// The sides of a scaled image are multiples of this number of pixels.
  public let factor: Int
  /// The numbers of pixels that a scaled image should have.
  public var bounds: ClosedRange<Int>

  public init(factor: Int, bounds: ClosedRange<Int>) {
    self.factor = factor
    self.bounds = bounds
  }

  /// The largest ratio of the sides of an image.
  public static let maxRatio = 200

  /// The size for an image of `height` x `width` pixels: the nearest multiples of the factor, or,
  /// if those are out of bounds, sides with about the same ratio inside of them.
  ///
  /// - Throws: `Issue` for an image without pixels, or one more than 200 times as long as wide.
  public func size(height: Int, width: Int) throws -> (height: Int, width: Int) {
    guard height > 0, width > 0 else {
      throw Issue(["image"], "has \(width)x\(height) pixels (expected at least one)")
    }
    guard max(height, width) <= Self.maxRatio * min(height, width) else {
      throw Issue(
        ["image"],
        "has \(width)x\(height) pixels, but one side may be at most \(Self.maxRatio) times the "
          + "other",
        suggestion: "Crop it.")
    }
    let (high, wide) = (Double(height), Double(width))
    let side = Double(factor)
    func nearest(_ length: Double) -> Int {
      Int((length / side).rounded(.toNearestOrEven)) * factor
    }
    let size = (height: nearest(high), width: nearest(wide))
    let pixels = size.height * size.width
    if pixels > bounds.upperBound {
      let shrink = (high * wide / Double(bounds.upperBound)).squareRoot()
      func below(_ length: Double) -> Int {
        max(factor, Int((length / shrink / side).rounded(.down)) * factor)
      }
      return (below(high), below(wide))
    }
    if pixels < bounds.lowerBound {
      let growth = (Double(bounds.lowerBound) / (high * wide)).squareRoot()
      func above(_ length: Double) -> Int {
        Int((length * growth / side).rounded(.up)) * factor
      }
      return (above(high), above(wide))
    }
    return (max(factor, size.height), max(factor, size.width))
  }
}

/// The choice of the frames of a clip that a model sees.
public enum FrameSampling {
  static let minFrames = 4.0
  public static let maxFrames = 768

  /// The indices of the chosen frames: `fps` per second, at least four and an even number, spread
  /// evenly from the first frame on. A clip of fewer frames has them all, without the last one of
  /// an odd number; the only frame of a clip is taken twice.
  ///
  /// - Parameters:
  ///   - count: The number of frames of the clip.
  ///   - rate: Its frames per second.
  ///   - fps: The frames per second to take.
  /// - Throws: `Issue` for a clip without frames, or a rate that is not above 0.
  public static func indices(count: Int, rate: Double, fps: Double) throws -> [Int] {
    guard count > 0 else { throw Issue(["video"], "has no frames") }
    guard rate > 0, rate.isFinite else {
      throw Issue(["video"], "has \(rate) frames per second (expected a number above 0)")
    }
    guard fps > 0, fps.isFinite else {
      throw Issue(["fps"], "must be a number above 0 (got \(fps))")
    }
    let wanted = max(Double(count) / rate * fps, minFrames)
    let taken = max(2, Int(min(wanted, Double(min(maxFrames, count)))) / 2 * 2)
    return (0..<taken).map { $0 * count / taken }
  }
}
