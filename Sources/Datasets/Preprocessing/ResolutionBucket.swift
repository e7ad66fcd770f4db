import Foundation
import LTX
import Support

/// A size that clips are scaled to, in pixels and frames.
public struct ResolutionBucket: Hashable, Sendable, CustomStringConvertible {
  public let width: Int
  public let height: Int
  public let frames: Int

  public init(width: Int, height: Int, frames: Int) {
    self.width = width
    self.height = height
    self.frames = frames
  }

  public var description: String { "\(width)x\(height)x\(frames)" }

  /// Parses `WxHxF`; nil for other text.
  init?(text: some StringProtocol) {
    let parts = text.split(separator: "x", omittingEmptySubsequences: false)
    let numbers = parts.compactMap { Int($0.trimmingCharacters(in: .whitespaces)) }
    guard parts.count == 3, numbers.count == 3, numbers.allSatisfy({ (1...1_000_000).contains($0) })
    else {
      return nil
    }
    self.init(width: numbers[0], height: numbers[1], frames: numbers[2])
  }

  /// Parses `WxHxF;WxHxF;…`.
  ///
  /// - Throws: `Issue` about `buckets`.
  public static func list(_ text: String) throws -> [ResolutionBucket] {
    let entries = text.split(separator: ";", omittingEmptySubsequences: false)
    return try entries.map { entry in
      guard let bucket = ResolutionBucket(text: entry) else {
        throw Issue(
          ["buckets"], "\"\(entry)\" is not a bucket (expected WIDTHxHEIGHTxFRAMES)",
          suggestion: "Write for example 768x768x49, and a semicolon between several.")
      }
      return bucket
    }
  }

  /// Checks that latents can have this size.
  ///
  /// - Throws: `Issue` about `buckets` that suggests the nearest possible size.
  func requireFit(_ factors: CompressionFactors) throws {
    func nearest(_ value: Int, _ factor: Int) -> Int {
      max(1, (value + factor / 2) / factor) * factor
    }
    if !width.isMultiple(of: factors.width) || !height.isMultiple(of: factors.height) {
      throw Issue(
        ["buckets"],
        "\(self): the width must be a multiple of \(factors.width) and the height one of "
          + "\(factors.height)",
        suggestion: "The nearest size is "
          + "\(nearest(width, factors.width))x\(nearest(height, factors.height)).")
    }
    if frames % factors.time != 1 % factors.time {
      let below = (frames - 1) / factors.time * factors.time + 1
      throw Issue(
        ["buckets"], "\(self): the number of frames must be a multiple of \(factors.time), plus 1",
        suggestion: "The nearest numbers are \(below) and \(below + factors.time).")
    }
  }
}

extension [ResolutionBucket] {
  /// Returns the bucket for a clip, by upstream's rule: among those that are not longer than the
  /// clip, the one with the nearest aspect ratio (by its logarithm); among several, the longest,
  /// then the largest, then the first.
  ///
  /// - Parameters:
  ///   - frames: the frames of the clip; nil if it is long enough for every bucket.
  ///   - keepsMotion: whether buckets of one frame are reserved for images and for clips that are
  ///     too short for all others, so that a clip does not become a still image because of its
  ///     aspect ratio.
  func best(
    width: Int, height: Int, frames: Int? = nil, keepsMotion: Bool = false
  ) -> ResolutionBucket? {
    func rank(_ bucket: ResolutionBucket) -> (Double, Int, Int) {
      let aspect = log(Double(width) / Double(height))
      return (
        abs(aspect - log(Double(bucket.width) / Double(bucket.height))), -bucket.frames,
        -bucket.width * bucket.height
      )
    }
    let fitting = filter { $0.frames <= frames ?? .max }
    let moving = keepsMotion ? fitting.filter { $0.frames > 1 } : []
    return (moving.isEmpty ? fitting : moving).min { rank($0) < rank($1) }
  }
}
