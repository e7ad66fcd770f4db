import CFFmpeg
import Foundation
import Media

/// Thumbnails of the first, middle and last frame of scenes, created as their frames pass.
///
/// The middle of a scene is known only at its end. So frames are held by reference at equal
/// intervals, which double when there are too many: the frame shown is within 6 % of the scene's
/// length from its middle, or within 25 % for very large frames. Only frames that are shown are
/// converted.
final class SceneStrips: SceneSink {
  /// The content of a page.
  struct Result: Equatable {
    /// JPEGs of each kept scene, in order.
    var scenes: [[Data]] = []
    /// The displayed width divided by the height.
    var aspect = 1.0
  }

  private let video: VideoReader
  private let converter: PixelConverter
  private(set) var result = Result()
  /// The reason why no more thumbnails are created, as a sentence; a split continues without them.
  private(set) var failure: String?

  private var held: [(index: Int, frame: FrameReference)] = []
  private var last: FrameReference?
  private var distance = 1
  private var count = 0

  /// The maximum size in bytes of frames held for the middle.
  private static let heldLimit = 64 << 20
  /// The maximum number of scenes with large thumbnails, and with any thumbnails, which keeps a
  /// page below about 30 MB.
  private static let (largeScenes, allScenes) = (500, 2000)

  init(_ video: VideoReader) throws {
    self.video = video
    converter = try PixelConverter(
      file: video.path, to: AV_PIX_FMT_RGB24, for: .videoFrames, color: video.colorStage)
    result.aspect = Double(video.width) * video.pixelAspect.value / Double(video.height)
  }

  private var isDone: Bool { failure != nil || result.scenes.count >= Self.allScenes }

  func begin(_ frame: UnsafeMutablePointer<AVFrame>, seconds: Double) throws { reset() }

  func append(_ frame: UnsafeMutablePointer<AVFrame>, seconds: Double) throws {
    guard !isDone else { return }
    let reference = try FrameReference(frame, file: video.path)
    last = reference
    if count.isMultiple(of: distance) { held.append((count, reference)) }
    count += 1
    let limit = min(16, max(2, Self.heldLimit / max(1, reference.byteCount)))
    if held.count > limit {
      distance *= 2
      held.removeAll { !$0.index.isMultiple(of: distance) }
    }
  }

  func end(at seconds: Double, keep: Bool) throws {
    defer { reset() }
    guard keep, !isDone, let first = held.first?.frame, let last else { return }
    let middle = (count - 1) / 2
    let nearest = held.min { abs($0.index - middle) < abs($1.index - middle) }?.frame ?? first
    let shown = count == 1 ? [first] : count == 2 ? [first, last] : [first, nearest, last]
    do {
      result.scenes.append(try shown.map(thumbnail))
    } catch {
      failure = "scenes.html has no images from scene \(result.scenes.count + 1) on: \(error)"
    }
  }

  func abandon() { reset() }

  private func reset() {
    held = []
    last = nil
    (distance, count) = (1, 0)
  }

  private func thumbnail(_ frame: FrameReference) throws -> Data {
    let upright = try converter.convert(frame.pointer, orientation: video.remainingOrientation)
    return try JPEGImage.thumbnail(
      rgb: upright, side: result.scenes.count < Self.largeScenes ? 240 : 120, file: video.path)
  }
}

/// Passes the same frames to several sinks.
final class SceneSinks: SceneSink {
  private let sinks: [any SceneSink]

  init(_ sinks: [any SceneSink]) { self.sinks = sinks }

  func begin(_ frame: UnsafeMutablePointer<AVFrame>, seconds: Double) throws {
    for sink in sinks { try sink.begin(frame, seconds: seconds) }
  }

  func append(_ frame: UnsafeMutablePointer<AVFrame>, seconds: Double) throws {
    for sink in sinks { try sink.append(frame, seconds: seconds) }
  }

  func end(at seconds: Double, keep: Bool) throws {
    for sink in sinks { try sink.end(at: seconds, keep: keep) }
  }

  func abandon() { for sink in sinks { sink.abandon() } }
}

extension VideoReader {
  /// Decodes a video from its start and passes on the frames of given scenes.
  ///
  /// - Parameters:
  ///   - scenes: Scenes in ascending order, without overlap.
  ///   - progress: Called with the number of decoded frames.
  func play(_ scenes: [FoundScene], into sink: any SceneSink, progress: (Int) throws -> Void) throws
  {
    var waiting = scenes[...]
    var index = 0
    while let scene = waiting.first {
      guard let (frame, seconds) = try nextDecoded() else {
        guard index == scene.scene.end else {
          throw MediaError(
            .decoding, file: path, "gave only \(index) frames when read again", remedy: "Try again."
          )
        }
        try sink.end(at: scene.endSeconds, keep: true)
        waiting.removeFirst()
        continue
      }
      if index == scene.scene.end {
        try sink.end(at: seconds, keep: true)
        waiting.removeFirst()
      }
      guard let scene = waiting.first else { return }
      if index == scene.scene.start { try sink.begin(frame, seconds: seconds) }
      if index >= scene.scene.start { try sink.append(frame, seconds: seconds) }
      index += 1
      try progress(index)
    }
  }
}
