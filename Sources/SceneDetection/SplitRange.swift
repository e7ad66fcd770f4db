import Media

/// The part of a video to split.
public struct SplitRange: Equatable, Sendable {
  /// The start of the range.
  public var start: SceneLength?
  /// The end of the range, from the video's beginning; the frame at that time is excluded.
  public var end: SceneLength?
  /// The length of the range.
  public var duration: SceneLength?
  /// The number of frames to skip at the video's end, counted by the container.
  public var skipEnd = 0

  public init(
    start: SceneLength? = nil, end: SceneLength? = nil, duration: SceneLength? = nil,
    skipEnd: Int = 0
  ) {
    self.start = start
    self.end = end
    self.duration = duration
    self.skipEnd = skipEnd
  }
}

/// Returns for consecutive frames whether they are in the range.
struct RangeGate {
  enum Place { case before, inside, after }

  private let range: SplitRange
  private let halfFrame: Double
  /// The first frame to skip at the end.
  private let lastFrame: Int?
  private var first: (index: Int, seconds: Double)?

  /// - Parameter frameCount: The number of the video's frames, which is needed to skip frames at
  ///   its end.
  init(_ range: SplitRange, rate: Rational, frameCount: Int?) {
    self.range = range
    halfFrame = 0.5 / rate.value
    lastFrame = range.skipEnd > 0 ? frameCount.map { max(0, $0 - range.skipEnd) } : nil
  }

  /// - Parameter seconds: The time from the video's first frame.
  mutating func place(index: Int, seconds: Double) -> Place {
    if let start = range.start, !isReached(start, index: index, seconds: seconds) { return .before }
    if let end = range.end, isReached(end, index: index, seconds: seconds) { return .after }
    if let lastFrame, index >= lastFrame { return .after }
    let first = first ?? (index, seconds)
    self.first = first
    if let duration = range.duration,
      isReached(duration, index: index - first.index, seconds: seconds - first.seconds)
    {
      return .after
    }
    return .inside
  }

  /// Times are rounded to the nearest frame.
  private func isReached(_ length: SceneLength, index: Int, seconds: Double) -> Bool {
    switch length {
    case .frames(let count): index >= count
    case .seconds(let wanted): seconds >= wanted - halfFrame
    }
  }
}
