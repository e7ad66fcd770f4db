import DemoData
import Media
import Support

/// A generated clip with the classifiers' answers.
public struct JudgedClip: Sendable {
  public let path: String
  public let frames: DecodedFrames
  public let video: VideoVerdict
  /// Nil for a clip without audio.
  public let audio: AudioVerdict?

  /// - Throws: `MediaError` for a file that can't be read, `Issue` for frames that can't be judged.
  public init(path: String) throws {
    self.path = path
    let reader = try VideoReader(path: path)
    var bytes: [[UInt8]] = []
    while let frame = try reader.next() { bytes.append(frame.bytes) }
    guard let frames = DecodedFrames(bytes, width: reader.width, height: reader.height) else {
      throw Issue([.file(path)], "has no frames that can be judged")
    }
    self.frames = frames
    video = VideoVerdict(frames)
    let clip = reader.hasAudio ? try AudioClip.read(path: path) : nil
    audio = clip.map { AudioVerdict(channels: $0.channels, sampleRate: $0.sampleRate) }
  }

  /// Whether each attribute of a scene was found.
  public func answers(for scene: DemoScene) -> [String: Bool] {
    let (register, contour) = (audio?.register == scene.register, audio?.contour == scene.contour)
    return [
      "color": video.color == scene.color, "shape": video.shape == scene.shape,
      "size": video.size == scene.size, "direction": video.direction == scene.direction,
      "register": register, "contour": contour, "pitch": register && contour,
    ]
  }
}

/// An image of several clips: a row for each, with frames that are spread over it.
public enum SampleSheet {
  private static let columns = 7

  public static func write(_ clips: [JudgedClip], to path: String) throws {
    guard let first = clips.first?.frames else {
      throw Issue([.file(path)], "has no clips to show")
    }
    let (width, height) = (first.width, first.height)
    var bytes: [UInt8] = []
    for clip in clips where clip.frames.width == width && clip.frames.height == height {
      let frames = (0..<columns).map { $0 * (clip.frames.count - 1) / (columns - 1) }
      for row in 0..<height {
        for frame in frames {
          let start = 3 * width * (frame * height + row)
          bytes += clip.frames.bytes[start..<start + 3 * width]
        }
      }
    }
    let rows = bytes.count / (3 * width * columns)
    try RGBFrame(bytes: bytes, width: width * columns, height: rows).writePNG(to: path)
  }
}
