import LTX
import Support

/// The regular keyframes of LTX-2.5's detailing recipe, and the windows in which its rounds add
/// frames between them (ltx-pipelines, `dfr_layout.py`).
struct KeyframeCanvas: Equatable {
  /// The number of pixel frames, which a whole number of segments needs.
  private(set) var frames: Int
  /// The pixel frames of the keyframes: the ends of the segments. The video's first frame is
  /// already a latent frame of its own.
  private(set) var keyframes: [Int]

  private static let segments = [24, 32]

  /// Pads a video to whole segments of 24 or 32 frames, whichever adds less, or else the longer
  /// one.
  ///
  /// - Parameter requested: The number of pixel frames, `8k + 1`.
  /// - Throws: `Issue` for a video of one frame, or factors that no segment is a multiple of.
  init(requested: Int, factors: CompressionFactors) throws {
    let content = requested - 1
    guard content > 0 else {
      throw Issue(["frames"], "must be more than one frame for keyframes (got \(requested))")
    }
    guard Self.segments.allSatisfy({ $0.isMultiple(of: factors.time) }) else {
      throw Issue(
        ["detailing"],
        "needs a video VAE whose latent frames divide 24 and 32 frames (got "
          + "\(factors.time))")
    }
    func padding(_ segment: Int) -> Int { (segment - content % segment) % segment }
    let segment = Self.segments.reversed().min { padding($0) < padding($1) } ?? 32
    frames = content + padding(segment) + 1
    keyframes = Array(stride(from: segment, through: frames - 1, by: segment))
  }

  /// A part of the canvas that is sampled on its own. All but the first one begin a segment before
  /// the part that they contribute.
  struct Window: Equatable {
    /// The first and the last pixel frame.
    let first: Int
    let last: Int
    /// The keyframes in it that are known, at pixel frames of the canvas.
    let known: [Int]
    /// The keyframes that are generated in it, in the middle of each segment.
    let generated: [Int]
    /// The number of latent frames at its start that the windows before contribute.
    let skipped: Int

    func latents(_ factors: CompressionFactors) -> Range<Int> {
      first / factors.time..<last / factors.time + 1
    }
  }

  /// Doubles the number of frames between keyframes, and returns the windows to sample.
  ///
  /// - Parameter count: The number of windows; at most one per segment.
  mutating func double(windows count: Int, factors: CompressionFactors) -> [Window] {
    frames = 2 * (frames - 1) + 1
    let bounds = [0] + keyframes.map { 2 * $0 }
    let segments = bounds.count - 1
    let count = min(count, segments)
    var windows: [Window] = []
    var start = 0
    for index in 0..<count {
      let end = start + segments / count + (index < segments % count ? 1 : 0)
      let lead = max(0, start - 1)
      windows.append(
        Window(
          first: bounds[lead], last: bounds[end], known: bounds[lead...end].filter { $0 > 0 },
          generated: (lead..<end).map { (bounds[$0] + bounds[$0 + 1]) / 2 },
          skipped: start == 0 ? 0 : (bounds[start] - bounds[lead]) / factors.time + 1))
      start = end
    }
    keyframes = (bounds.dropFirst() + windows.flatMap(\.generated)).uniqued()
    return windows
  }
}

extension Sequence where Element == Int {
  /// The different numbers, in increasing order.
  fileprivate func uniqued() -> [Int] { Set(self).sorted() }
}
