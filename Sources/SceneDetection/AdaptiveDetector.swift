import Media

/// Finds hard cuts, where a frame changes much more than the frames around it, so that fast camera
/// movement does not count as a cut.
///
/// Equals PySceneDetect's `AdaptiveDetector`: the score of `ContentDetector` divided by the mean of
/// its neighbors' scores.
public struct AdaptiveDetector: SceneDetector {
  public static let defaultThreshold = 3.0
  public static let defaultWindow = 2
  /// The minimum score of a cut, regardless of its neighbors.
  public static let minimumScore = 15.0

  /// The minimum ratio at which a frame starts a new scene.
  public let threshold: Double
  /// The number of frames on each side that a frame is compared with.
  public let window: Int
  public var collectsMeasurements: Bool {
    get { change.measuresEdges }
    set { change.measuresEdges = newValue }
  }
  public private(set) var measurements: [SceneMeasurement] = []
  public let metricNames: [String]
  public var measurementDelay: Int { window }

  private let minimumSceneLength: Int
  private var change: ContentChange
  private var recent: [(frame: Int, score: Double)] = []
  private var lastCut: Int?

  /// - Parameters:
  ///   - minimumSceneLength: The minimum number of frames between cuts; closer ones are dropped.
  ///   - window: 1 or more.
  public init(
    threshold: Double = Self.defaultThreshold,
    minimumSceneLength: Int = ContentDetector.defaultMinimumSceneLength,
    window: Int = Self.defaultWindow, lumaOnly: Bool = false
  ) {
    self.threshold = threshold
    self.window = max(1, window)
    self.minimumSceneLength = minimumSceneLength
    change = ContentChange(lumaOnly: lumaOnly)
    metricNames =
      ["adaptive_ratio\(lumaOnly ? "_lum" : "") (w=\(self.window))"] + ContentChange.metricNames
  }

  public mutating func process(_ frame: DetectionFrame) -> [Int] {
    change.process(frame)
    measurements = change.measurements.map {
      SceneMeasurement(frame: $0.frame, column: $0.column + 1, value: $0.value)
    }
    let last = lastCut ?? frame.index
    lastCut = last
    recent.append((frame.index, change.score))
    if recent.count > 2 * window + 1 { recent.removeFirst() }
    guard recent.count == 2 * window + 1 else { return [] }
    let target = recent[window]
    let ratio = ratioInTheMiddle()
    if collectsMeasurements {
      measurements.append(SceneMeasurement(frame: target.frame, column: 0, value: ratio))
    }
    guard ratio >= threshold, target.score >= Self.minimumScore,
      target.frame - last >= minimumSceneLength
    else { return [] }
    lastCut = target.frame
    return [target.frame]
  }

  private func ratioInTheMiddle() -> Double {
    var sum = 0.0
    for (i, entry) in recent.enumerated() where i != window { sum += entry.score }
    let mean = sum / (2 * Double(window))
    let score = recent[window].score
    if abs(mean) < 0.00001 { return score >= Self.minimumScore ? 255 : 0 }
    return min(score / mean, 255)
  }

  public func firstOpenFrame(next: Int) -> Int {
    // The next frame decides about the one that is `window` frames before it.
    let place = recent.count > 2 * window ? window + 1 : window
    return place < recent.count ? recent[place].frame : next
  }
}
