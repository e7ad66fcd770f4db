import CFFmpeg
import Media

/// Receives the frames of scenes in order.
protocol SceneSink: AnyObject {
  func begin(_ frame: UnsafeMutablePointer<AVFrame>, seconds: Double) throws
  func append(_ frame: UnsafeMutablePointer<AVFrame>, seconds: Double) throws
  /// - Parameter keep: Whether the scene is kept; otherwise nothing remains of it.
  func end(at seconds: Double, keep: Bool) throws
  /// Called if no more frames come; nothing remains of a scene that has begun.
  func abandon()
}

/// A scene and its times on the container's clock.
struct FoundScene: Equatable {
  var scene: Scene
  let startSeconds: Double
  let endSeconds: Double
  /// The last keyframe at or before the scene's start; nil before scenes are copied.
  var keyframe: Keyframe?
  /// Whether the scene is long enough.
  let isKept: Bool
}

/// One decoding pass over a video: finds its scenes and passes on their frames as soon as no cut
/// can be placed before them.
///
/// Frames are held by reference for as long as the detector can still place a cut before them. If
/// that would take too much memory (a detector of fades waits for the end of the dark), no more
/// frames are passed on, and only the first `handedOn` scenes are complete.
final class ScenePass {
  struct Options {
    var range = SplitRange()
    /// The divisor of width and height for the detector; nil shrinks to 256 pixels.
    var downscale: Int?
    /// The number of frames that the detector skips after each frame that it sees.
    var frameSkip = 0
    /// The minimum number of frames of scenes to keep.
    var minimumLength = 0
    /// The number of kept scenes at which to stop.
    var maximumCount: Int?
    /// The maximum size of held frames in bytes.
    var heldLimit = 256 << 20
    /// Whether to keep the times of all frames.
    var keepsTimes = false
  }

  private struct Held {
    let index: Int
    let seconds: Double
    var frame: FrameReference?
  }

  private let video: VideoReader
  private let options: Options
  private var detector: any SceneDetector
  private let maker: DetectionFrameMaker
  private var gate: RangeGate
  private var sink: (any SceneSink)?
  private let statistics: SceneStatistics?

  /// The frames from `firstHeld` are held; those before it are done, and are removed from the array
  /// from time to time.
  private var held: [Held] = []
  private var firstHeld = 0
  private var heldBytes = 0
  private var cuts: [Int] = []
  private var open: (start: Int, seconds: Double)?
  private var lastSeconds = 0.0

  /// All scenes up to the last kept one.
  private(set) var scenes: [FoundScene] = []
  private(set) var keptCount = 0
  /// The presentation time of each frame on the container's clock, if `keepsTimes`.
  private(set) var times: [Double] = []
  /// The number of kept scenes, from the first, whose frames were all passed on.
  private(set) var handedOn = 0
  /// The time of the video's first frame on the container's clock.
  private(set) var origin = 0.0
  /// The number of processed frames, without those before the range.
  private(set) var frameCount = 0
  /// Whether the pass stopped before the video's end.
  private(set) var stoppedEarly = false

  init(
    video: VideoReader, detector: any SceneDetector, options: Options = Options(),
    sink: (any SceneSink)? = nil, statistics: SceneStatistics? = nil
  ) throws {
    self.video = video
    self.options = options
    self.detector = detector
    self.detector.collectsMeasurements = statistics != nil
    self.sink = sink
    self.statistics = statistics
    maker = try DetectionFrameMaker(for: video, factor: options.downscale)
    let total =
      options.range.skipEnd > 0
      ? try PacketReader.countFrames(file: video.path) : video.frameCount.value
    gate = RangeGate(options.range, rate: video.frameRate, frameCount: total)
  }

  /// - Parameter progress: Called with the number of decoded frames.
  func run(progress: (Int) throws -> Void) throws {
    var index = 0
    var end: Double?
    reading: while let (frame, seconds) = try video.nextDecoded() {
      if index == 0 { origin = seconds }
      if options.keepsTimes { times.append(seconds) }
      switch gate.place(index: index, seconds: seconds - origin) {
      case .before: break
      case .inside: try take(frame, index: index, seconds: seconds)
      case .after:
        end = seconds
        break reading
      }
      index += 1
      lastSeconds = seconds
      try progress(index)
      if let maximum = options.maximumCount, keptCount >= maximum {
        stoppedEarly = true
        try statistics?.flush()
        return
      }
    }
    stoppedEarly = end != nil
    guard frameCount > 0 else {
      throw MediaError(
        .badOption, file: video.path, "holds no frame in the part asked for (it has \(index))",
        remedy: "Ask for a part that lies within the video.")
    }
    try statistics?.flush()
    try settle(before: .max)
    try close(before: index, seconds: end ?? lastSeconds + 1 / video.frameRate.value)
  }

  private func take(_ frame: UnsafeMutablePointer<AVFrame>, index: Int, seconds: Double) throws {
    if frameCount % (options.frameSkip + 1) == 0 {
      cuts += detector.process(try maker.make(frame, index: index))
      try statistics?.add(detector.measurements, frame: index, seconds: seconds - origin)
    }
    // The first frame begins a scene in any case.
    if frameCount == 0 { cuts.removeAll() }
    frameCount += 1
    let reference = sink == nil ? nil : try FrameReference(frame, file: video.path)
    heldBytes += reference?.byteCount ?? 0
    held.append(Held(index: index, seconds: seconds, frame: reference))
    try settle(before: detector.firstOpenFrame(next: index + 1))
    if heldBytes > options.heldLimit { abandonSink() }
  }

  private func abandonSink() {
    sink?.abandon()
    sink = nil
    held = held.map { Held(index: $0.index, seconds: $0.seconds, frame: nil) }
    heldBytes = 0
  }

  /// Passes on the frames before the first one that can still become a cut.
  private func settle(before limit: Int) throws {
    defer {
      if firstHeld > held.count / 2 {
        held.removeFirst(firstHeld)
        firstHeld = 0
      }
    }
    while firstHeld < held.count, held[firstHeld].index < limit {
      let entry = held[firstHeld]
      held[firstHeld].frame = nil
      firstHeld += 1
      if cuts.contains(entry.index) {
        cuts.removeAll { $0 <= entry.index }
        try close(before: entry.index, seconds: entry.seconds)
        if let maximum = options.maximumCount, keptCount >= maximum { return }
      }
      if open == nil {
        open = (entry.index, entry.seconds)
        if let frame = entry.frame { try sink?.begin(frame.pointer, seconds: entry.seconds) }
      }
      if let frame = entry.frame {
        try sink?.append(frame.pointer, seconds: entry.seconds)
        heldBytes -= frame.byteCount
      }
    }
  }

  private func close(before index: Int, seconds: Double) throws {
    guard let scene = open else { return }
    open = nil
    let keep = index - scene.start >= options.minimumLength
    if let sink {
      try sink.end(at: seconds, keep: keep)
      if keep { handedOn += 1 }
    }
    keptCount += keep ? 1 : 0
    scenes.append(
      FoundScene(
        scene: Scene(start: scene.start, end: index), startSeconds: scene.seconds,
        endSeconds: seconds,
        keyframe: nil, isKept: keep))
  }
}
