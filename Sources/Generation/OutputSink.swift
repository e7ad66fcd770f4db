import Foundation
import Media
import Support
import TensorFiles

/// The kind of an output file, by its extension.
enum OutputKind {
  /// MP4, with audio if there is any.
  case video
  /// PNG: one frame.
  case image
  /// WAV.
  case audio

  init(path: String) throws {
    switch (path as NSString).pathExtension.lowercased() {
    case "mp4": self = .video
    case "png": self = .image
    case "wav": self = .audio
    default:
      throw Issue(
        ["output", .file(path)],
        "must end in .mp4, in .png for a single frame, or in .wav for audio alone")
    }
  }

  /// `a.mp4`, or `a-1.mp4` and so on if there are several.
  static func paths(_ path: String, count: Int) throws -> [String] {
    guard count > 1 else { return [path] }
    let name = path as NSString
    let digits = String(count).count
    return (1...count).map { index in
      let number = String(repeating: "0", count: digits - String(index).count) + String(index)
      return "\(name.deletingPathExtension)-\(number).\(name.pathExtension)"
    }
  }
}

/// The destination of generated frames: an MP4, or a PNG for a single frame. The file appears under
/// its name only when it is complete; a sink that is dropped before that leaves nothing behind.
final class OutputSink {
  private enum Target {
    case video(VideoWriter)
    case image(path: String)
  }

  private let target: Target
  private let audio: AudioClip?
  /// The number of audio samples that have been written.
  private var written = 0
  private let frameRate: Double

  init(path: String, kind: OutputKind, size: GenerationPlan.OutputSize, audio: AudioClip?) throws {
    frameRate = size.frameRate.value
    self.audio = audio
    guard kind == .video else {
      target = .image(path: path)
      return
    }
    // For images with few macroblocks per row, x264's macroblock tree (seen in version 164 at 64
    // pixels) reads uninitialized memory, and the same frames don't always give the same bytes.
    // This preset doesn't use the tree.
    let quality = VideoWriter.Quality(preset: size.width < 128 ? "superfast" : "medium")
    target = .video(
      try VideoWriter(
        path: path, width: size.width, height: size.height, frameRate: size.frameRate,
        audio: audio.map { .init(sampleRate: $0.sampleRate, channelCount: $0.channels.count) },
        quality: quality, codec: .preferred))
  }

  /// Adds a frame and the audio that belongs to it.
  func append(_ frame: RGBFrame) throws {
    switch target {
    case .video(let writer):
      try writer.append(frame)
      try appendAudio(to: writer)
    case .image(let path): try frame.writePNG(to: path)
    }
  }

  func finish() throws {
    guard case .video(let writer) = target else { return }
    try writer.finish()
  }

  /// Interleaves video and audio, so that players don't have to seek. The track is as long as the
  /// video: longer audio is cut, shorter audio is padded with silence.
  private func appendAudio(to writer: VideoWriter) throws {
    guard let audio else { return }
    let end = Int((Double(writer.frameCount) / frameRate * Double(audio.sampleRate)).rounded())
    try writer.append(
      audio: audio.channels.map { channel in
        // Samples beyond full scale are clipped.
        let part = channel.dropFirst(written).prefix(end - written).map { min(max($0, -1), 1) }
        return part + [Float](repeating: 0, count: end - written - part.count)
      })
    written = end
  }

  /// Finds problems with the output file before hours of work.
  ///
  /// - Parameter inputs: Files that are read and must not be overwritten.
  static func check(
    path: String, kind: OutputKind, size: GenerationPlan.OutputSize, inputs: [String] = []
  ) throws {
    func fail(_ problem: String, _ suggestion: String? = nil) -> Issue {
      Issue(["output", .file(path)], problem, suggestion: suggestion)
    }
    switch kind {
    case .image:
      guard size.frames == 1 else {
        throw fail(
          "a PNG file holds a single frame (got \(size.frames))",
          "Use .mp4, or generate a single frame.")
      }
    case .video:
      guard size.width % 2 == 0, size.height % 2 == 0, size.width <= 16384, size.height <= 16384
      else {
        throw fail(
          "H.264 needs an even width and height of at most 16384 (got \(size.width)x\(size.height))"
        )
      }
    case .audio: break
    }
    if let problem = OutputFile.problem(path, inputs: inputs) { throw fail(problem) }
  }
}
