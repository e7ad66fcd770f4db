import Foundation
import Media

/// A preview of a sample for pages that don't play video: an image, and audio as WAV.
struct MediaPreview {
  struct Image {
    /// PNG or JPEG.
    let data: Data
    let width: Int
    let height: Int
  }

  struct Audio {
    /// 16-bit WAV.
    let data: Data
    let sampleRate: Int
    let channels: Int
    let samples: Int
  }

  private(set) var image: Image?
  private(set) var audio: Audio?

  /// - Parameter side: the limit of the longer side of a video's image, in pixels.
  /// - Throws: `MediaError` for a file that can't be decoded.
  init(_ sample: ValidationMedia, side: Int = 1024) throws {
    switch sample.kind {
    case .image:
      let reader = try VideoReader(path: sample.path)
      image = Image(
        data: try Data(contentsOf: URL(fileURLWithPath: sample.path)), width: reader.width,
        height: reader.height
      )
    case .video:
      let reader = try VideoReader(path: sample.path)
      image = try Self.sheet(of: reader, side: side)
      if reader.hasAudio { audio = try Self.audio(of: sample.path) }
    case .audio:
      audio = try Self.audio(of: sample.path)
    }
  }

  private static func audio(of path: String) throws -> Audio {
    let clip = try AudioClip.read(path: path)
    return Audio(
      data: try WAVWriter.data(clip.channels, sampleRate: clip.sampleRate, path: path),
      sampleRate: clip.sampleRate, channels: clip.channels.count, samples: clip.sampleCount)
  }

  /// Four evenly spaced frames, including the first and the last, in a grid of two by two.
  private static func sheet(of reader: VideoReader, side: Int) throws -> Image? {
    // If the container counts too many frames, the last one replaces the missing ones.
    let last = max(0, (reader.frameCount.value ?? 1) - 1)
    let places = (0..<4).map { $0 * last / 3 }
    var shown: [RGBFrame] = []
    var latest: RGBFrame?
    while let frame = try reader.next() {
      shown += places.filter { $0 == frame.index }.map { _ in frame }
      latest = frame
    }
    guard let latest else { return nil }
    shown += Array(repeating: latest, count: 4 - shown.count)
    let (width, height) = (reader.width, reader.height)
    var bytes: [UInt8] = []
    bytes.reserveCapacity(4 * 3 * width * height)
    for pair in [shown[..<2], shown[2...]] {
      for row in 0..<height {
        for frame in pair { bytes += frame.bytes[3 * width * row..<3 * width * (row + 1)] }
      }
    }
    let sheet = RGBFrame(bytes: bytes, width: 2 * width, height: 2 * height)
    let scale = min(1, Double(side) / Double(max(sheet.width, sheet.height)))
    return Image(
      data: try sheet.thumbnail(side: side),
      width: max(1, Int((Double(sheet.width) * scale).rounded())),
      height: max(1, Int((Double(sheet.height) * scale).rounded())))
  }
}
