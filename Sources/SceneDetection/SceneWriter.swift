import CFFmpeg
import Foundation
import Media

/// Writes scenes frame by frame with their audio, each to a separate MP4, named `1.mp4` and so on
/// in a folder.
final class SceneWriter: SceneSink {
  private let folder: String
  private let quality: VideoWriter.Quality
  let video: VideoReader
  private var audio: SceneAudio?
  private var current: (writer: VideoWriter, path: String, startSeconds: Double)?
  /// The finished files, in order.
  private(set) var files: [String] = []
  /// Notes for the user, as sentences.
  var notes: [String] {
    let origin = video.firstSeconds ?? 0
    let notes =
      ownNotes + (compositor?.color.notes ?? []).map { "In the scenes, \($0)." }
      + (audio?.notes(from: origin) ?? [])
    guard let loss = audio?.loss else { return notes }
    let seconds = String(format: "%.2f", loss.seconds - origin)
    return notes + ["\(loss.noun) ends early, at \(seconds) s: \(loss.reason)."]
  }
  private var ownNotes: [String] = []
  private let firstNumber: Int
  /// Composites transparent pixels on a background, because H.264 has no alpha.
  private var compositor: PixelConverter?
  /// The unit of the time stamps. Frames keep their times: on the grid of a constant rate, where
  /// frames may be missing, or else in a fine unit.
  private let timeBase: Rational?

  /// - Parameter firstNumber: The number of the first file.
  init(
    video: VideoReader, folder: String, quality: VideoWriter.Quality, firstNumber: Int = 1,
    audioTrack: AudioTrackChoice = .automatic
  ) throws {
    self.folder = folder
    self.quality = quality
    self.video = video
    self.firstNumber = firstNumber
    let isConstant =
      try video.hasConstantRate && FrameTiming(path: video.path, rate: video.frameRate) == .constant
    timeBase = isConstant ? nil : Rational(1, 90_000)
    if video.width % 2 == 1 || video.height % 2 == 1 {
      ownNotes.append("The last odd row or column of pixels is left out: H.264 needs an even size.")
    }
    if video.hasAudio { try openAudio(video.path, audioTrack) }
  }

  /// - Throws: `MediaError` if the frames of a video can't be encoded.
  static func check(_ video: VideoReader) throws {
    let size = "frames of \(video.width)x\(video.height) cannot be coded as H.264"
    if video.width < 2 || video.height < 2 {
      throw MediaError(.badOption, file: video.path, size, remedy: "Give a larger video.")
    }
    if max(video.width, video.height) > 16384 {
      throw MediaError(
        .badOption, file: video.path, size,
        remedy: "Scale the video to at most 16384 pixels on each side.")
    }
  }

  /// Opens the audio. Audio that can't be used is reported, and the video is written without it. A
  /// requested track that the file does not have is an error.
  private func openAudio(_ input: String, _ track: AudioTrackChoice) throws {
    do {
      let source = try AudioReader(path: input, track: track)
      let (rate, count) = AudioTrackWriter.nearest(
        sampleRate: source.sourceRate, channelCount: source.channelCount)
      guard rate != source.sourceRate || count != source.channelCount else {
        audio = SceneAudio(source, channelCount: count)
        return
      }
      let reader = try AudioReader(
        path: input, track: track, channels: count == source.channelCount ? .own : .count(count),
        sampleRate: rate)
      audio = SceneAudio(reader, channelCount: count)
      let (from, to) = (
        AudioReader.format(source.sourceRate, source.channelCount), AudioReader.format(rate, count)
      )
      ownNotes.append(
        "The scenes' audio is converted from \(from) to \(to): AAC can't hold it unchanged.")
    } catch let error as MediaError where error.kind == .badOption {
      throw error
    } catch {
      ownNotes.append("The scenes have no audio: \(error)")
    }
  }

  func begin(_ frame: UnsafeMutablePointer<AVFrame>, seconds: Double) throws {
    let path = "\(folder)/\(firstNumber + files.count).mp4"
    let tags = try tags(of: frame)
    let writer = try VideoWriter(
      path: path, width: video.width & ~1, height: video.height & ~1,
      frameRate: video.frameRate, timeBase: timeBase,
      audio: audio?.format, quality: quality,
      tags: tags, codec: .preferred, color: video.colorStage,
      light: (UnsafePointer(frame), UnsafePointer(video.decoder.stream)))
    audio?.start(at: seconds)
    current = (writer, path, seconds)
  }

  /// The tags of a scene. Frames with alpha are composited, and so become BT.709; the depth of
  /// other frames is reported once.
  private func tags(of frame: UnsafeMutablePointer<AVFrame>) throws -> VideoWriter.Tags {
    var tags = VideoWriter.Tags(
      of: frame, orientation: video.remainingOrientation, color: video.colorStage)
    if AlphaCompositor.hasAlpha(AVPixelFormat(frame.pointee.format)) {
      if compositor == nil {
        compositor = try PixelConverter(
          file: video.path, to: AV_PIX_FMT_RGB24, for: .videoFrames, color: video.colorStage)
      }
      let aspect = tags.pixelAspect
      tags = VideoWriter.Tags()
      tags.pixelAspect = aspect
    } else if tags.depth > 8 {
      let keepsDepth = VideoWriter.Codec.preferred == .h264
      if !keepsDepth { tags.depth = 8 }
      if !isDepthTold {
        isDepthTold = true
        ownNotes.append(
          keepsDepth
            ? "The scenes keep 10 bits a sample and the color tags of the video (H.264 High 10)."
            : "The scenes have 8 of the video's 10 bits a sample (MPEG-4 Part 2 has no more).")
      }
    }
    return tags
  }

  private var isDepthTold = false

  func append(_ frame: UnsafeMutablePointer<AVFrame>, seconds: Double) throws {
    guard let current else { return }
    let hasAlpha = AlphaCompositor.hasAlpha(AVPixelFormat(frame.pointee.format))
    let frame = hasAlpha ? try compositor?.convert(frame, orientation: .upright) ?? frame : frame
    try current.writer.append(
      decoded: frame, orientation: video.remainingOrientation,
      seconds: seconds - current.startSeconds)
    // Audio follows the video up to this frame, so that the muxer does not need to buffer either.
    try audio?.copy(until: seconds, to: current.writer)
  }

  func end(at seconds: Double, keep: Bool) throws {
    guard let scene = current else { return }
    current = nil
    guard keep else { return }
    try audio?.copy(until: seconds, to: scene.writer)
    try scene.writer.finish()
    files.append(scene.path)
  }

  func abandon() { current = nil }
}
