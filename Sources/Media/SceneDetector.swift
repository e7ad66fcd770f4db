/// A picture as scene detectors see it: small, red, green, blue.
public struct DetectionFrame: Sendable {
  /// Place in the video, from 0.
  public let index: Int
  public let width: Int
  public let height: Int
  /// [height, width, channel].
  public let bytes: [UInt8]
}

/// Finds cuts in a stream of frames. A detector keeps only what it needs of the past, so that memory does not grow
/// with the video.
public protocol SceneDetector {
  /// Takes the next frame and gives the first frames of new scenes that became certain by it, which may lie in the
  /// past.
  mutating func process(_ frame: DetectionFrame) -> [Int]

  /// Called after the last frame: cuts that became certain by the end.
  mutating func finish(frameCount: Int) -> [Int]
}

extension SceneDetector {
  public mutating func finish(frameCount: Int) -> [Int] { [] }
}

/// Keeps scenes from being shorter than a number of frames: cuts that come too close behind a cut are merged into
/// one, placed at the last of them. PySceneDetect's `FlashFilter` in the mode `MERGE`.
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
      // Merging goes on until enough quiet frames have passed.
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

  /// The scenes between cuts; without a cut, one scene.
  public static func between(cuts: [Int], frameCount: Int) -> [Scene] {
    let inside = Set(cuts).filter { $0 > 0 && $0 < frameCount }.sorted()
    return zip([0] + inside, inside + [frameCount]).map { Scene(start: $0, end: $1) }
  }
}

extension VideoReader {
  /// Decodes the rest of the video and gives the scenes that the detector sees in it.
  ///
  /// Frames are shrunk first as PySceneDetect does, so that detectors see the same pixels.
  /// - Parameter progress: called with the number of frames done.
  /// - Throws: as `next()`.
  public func scenes(
    by detector: some SceneDetector, progress: (Int) throws -> Void = { _ in }
  ) throws -> [Scene] {
    var detector = detector
    let shrinker = FrameShrinker(width: width, height: height)
    var cuts: [Int] = []
    var count = 0
    while let frame = try next() {
      cuts += detector.process(shrinker.shrink(frame))
      count += 1
      try progress(count)
    }
    cuts += detector.finish(frameCount: count)
    return Scene.between(cuts: cuts, frameCount: count)
  }
}
