import Media

/// An image as scene detectors read it: small, red, green, blue.
public struct DetectionFrame: Sendable {
  /// Place in the video, from 0.
  public let index: Int
  public let width: Int
  public let height: Int
  /// [height, width, channel].
  public let bytes: [UInt8]
}

/// Finds cuts in a stream of frames. A detector keeps only what it needs of the past, so that
/// memory does not grow with the video.
public protocol SceneDetector: Sendable {
  /// The names of the metrics, in the order of `SceneMeasurement.column`: PySceneDetect's names,
  /// sorted.
  var metricNames: [String] { get }

  /// Whether `measurements` are wanted; they may cost time that finding cuts does not need.
  var collectsMeasurements: Bool { get set }

  /// The measurements of the last call of `process`. Frames come in ascending order for each
  /// column.
  var measurements: [SceneMeasurement] { get }

  /// The maximum delay of a measurement, in calls of `process`.
  var measurementDelay: Int { get }

  /// Takes the next frame and gives the first frames of new scenes that became certain by it, which
  /// may lie in the past.
  mutating func process(_ frame: DetectionFrame) -> [Int]

  /// The first frame that can still become a cut, if `next` is the next frame to come: all before
  /// it are settled. Never falls from one frame to the next.
  func firstOpenFrame(next: Int) -> Int
}

/// One number that a detector measured at a frame.
public struct SceneMeasurement: Equatable, Sendable {
  public let frame: Int
  /// Index into `SceneDetector.metricNames`.
  public let column: Int
  public let value: Double
}

/// Keeps scenes from being shorter than a number of frames: cuts that come too close behind a cut
/// are merged into one, placed at the last of them. PySceneDetect's `FlashFilter` in the mode
/// `MERGE`.
public struct CutMerger: Sendable {
  private let minimumLength: Int
  private var lastAbove: Int?
  private var hasCut = false
  private var mergeStart: Int?

  /// - Parameter minimumLength: in frames; 0 or less lets every cut pass.
  public init(minimumLength: Int) { self.minimumLength = minimumLength }

  /// - Returns: the first frame of a new scene, if one became certain.
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

  /// The first frame that can still become a cut: the last one above, if enough was merged for it
  /// to count.
  public func firstOpenFrame(next: Int) -> Int {
    guard let mergeStart, let lastAbove, lastAbove - mergeStart >= minimumLength else {
      return next
    }
    return lastAbove
  }
}

/// A stretch of a video: frames `start ..< end`.
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
  /// Decodes the rest of the video and gives the scenes that the detector sees in it; without a
  /// cut, one scene.
  ///
  /// Frames are shrunk first as PySceneDetect does, so that detectors see the same pixels.
  /// - Parameter progress: called with the number of frames done.
  /// - Throws: as `next()`.
  public func scenes(
    by detector: any SceneDetector, progress: (Int) throws -> Void = { _ in }
  ) throws -> [Scene] {
    let pass = try ScenePass(video: self, detector: detector)
    try pass.run(progress: progress)
    return pass.scenes.map(\.scene)
  }
}
