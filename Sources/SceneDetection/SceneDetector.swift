import Media

/// A small RGB image for scene detectors.
public struct DetectionFrame: Sendable {
  /// The index in the video, from 0.
  public let index: Int
  public let width: Int
  public let height: Int
  /// [height, width, channel].
  public let bytes: [UInt8]
}

/// Finds cuts in a sequence of frames. A detector keeps only what it needs from earlier frames, so
/// that memory doesn't grow with the video.
public protocol SceneDetector: Sendable {
  /// The names of the metrics, in the order of `SceneMeasurement.column`: PySceneDetect's names,
  /// sorted.
  var metricNames: [String] { get }

  /// Whether `measurements` are recorded; they may cost time that finding cuts doesn't need.
  var collectsMeasurements: Bool { get set }

  /// The measurements of the last call of `process`. Frames are in ascending order for each column.
  var measurements: [SceneMeasurement] { get }

  /// The maximum delay of a measurement, in calls of `process`.
  var measurementDelay: Int { get }

  /// Processes the next frame and returns the first frames of new scenes that are now certain,
  /// which may be in the past.
  mutating func process(_ frame: DetectionFrame) -> [Int]

  /// The first frame that can still become a cut if `next` is the next frame. All earlier frames
  /// are settled. The result never decreases.
  func firstOpenFrame(next: Int) -> Int
}

/// A value that a detector measured at a frame.
public struct SceneMeasurement: Equatable, Sendable {
  public let frame: Int
  /// The index in `SceneDetector.metricNames`.
  public let column: Int
  public let value: Double
}

/// Enforces a minimum scene length: cuts that follow a cut too closely are merged into one, at the
/// last of them. Equals PySceneDetect's `FlashFilter` in the mode `MERGE`.
public struct CutMerger: Sendable {
  private let minimumLength: Int
  private var lastAbove: Int?
  private var hasCut = false
  private var mergeStart: Int?

  /// - Parameter minimumLength: The minimum length in frames; 0 or less accepts every cut.
  public init(minimumLength: Int) { self.minimumLength = minimumLength }

  /// - Returns: The first frame of a new scene, if one is now certain.
  public mutating func process(frame: Int, isAbove: Bool) -> Int? {
    guard minimumLength > 0 else { return isAbove ? frame : nil }
    let previous = lastAbove ?? frame
    let isFarEnough = frame - previous >= minimumLength
    lastAbove = isAbove ? frame : previous
    if let start = mergeStart {
      // Merging continues until enough quiet frames have passed.
      guard isFarEnough, !isAbove, previous - start >= minimumLength else { return nil }
      mergeStart = nil
      return previous
    }
    guard isAbove else { return nil }
    if isFarEnough {
      hasCut = true
      return frame
    }
    // Nothing is merged into the beginning of the video.
    if hasCut { mergeStart = frame }
    return nil
  }

  /// The first frame that can still become a cut: the last one above the threshold, if enough
  /// frames were merged for it to count.
  public func firstOpenFrame(next: Int) -> Int {
    guard let mergeStart, let lastAbove, lastAbove - mergeStart >= minimumLength else {
      return next
    }
    return lastAbove
  }
}

/// A range of a video's frames: `start ..< end`.
public struct Scene: Equatable, Sendable {
  public let start: Int
  public let end: Int
  public var length: Int { end - start }

  public init(start: Int, end: Int) {
    self.start = start
    self.end = end
  }
}

extension VideoReader {
  /// Decodes the rest of the video and returns the scenes that the detector finds; without a cut,
  /// one scene.
  ///
  /// Frames are shrunk first, like in PySceneDetect, so that detectors see the same pixels.
  /// - Parameter progress: Called with the number of processed frames.
  /// - Throws: The errors of `next()`.
  public func scenes(
    by detector: any SceneDetector, progress: (Int) throws -> Void = { _ in }
  ) throws -> [Scene] {
    let pass = try ScenePass(video: self, detector: detector)
    try pass.run(progress: progress)
    return pass.scenes.map(\.scene)
  }
}
