import Media

/// Where frames go: an MP4 or, by the path's ending, a PNG.
final class FrameFile {
  private let path: String
  private let writer: VideoWriter?

  init(_ path: String, _ width: Int, _ height: Int, rate: Rational, audio: AudioClip?) throws {
    self.path = path
    guard path.hasSuffix(".mp4") else {
      writer = nil
      return
    }
    let format = audio.map {
      VideoWriter.Audio(
        sampleRate: $0.sampleRate, channelCount: $0.channels.count, matchesVideo: true)
    }
    // x264's macroblock tree is not reproducible in pictures of few macroblocks a row; this preset
    // has none.
    let writer = try VideoWriter(
      path: path, width: width, height: height, frameRate: rate, audio: format,
      quality: VideoWriter.Quality(preset: width < 128 ? "superfast" : "medium"))
    if let audio { try writer.append(audio: audio.channels) }
    self.writer = writer
  }

  func append(_ frame: RGBFrame) throws {
    if let writer { try writer.append(frame) } else { try frame.writePNG(to: path) }
  }

  func finish() throws { try writer?.finish() }
}
