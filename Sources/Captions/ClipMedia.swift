import Foundation
import Media

/// The frames and the audio of a clip, in the formats that servers accept.
enum ClipMedia {
  /// The limit on the frames of a clip; longer clips are sampled at a lower rate.
  static let maxFrames = 64
  /// The least number of frames of a clip that has as many.
  private static let minFrames = 4
  /// The limit on the longer side of a video's frame, in pixels.
  private static let frameSide = 768
  /// The same for an image.
  private static let imageSide = 1536
  /// The sample rate of the audio that models hear.
  static let sampleRate = 16_000

  /// Frames at a constant rate, evenly spread over the clip from its first one, as JPEG.
  ///
  /// - Parameter fps: Frames per second of the clip, lowered for long clips.
  /// - Throws: `MediaError` for a file that can't be decoded.
  static func frames(of path: String, fps: Double) throws -> [Data] {
    let reader = try VideoReader(path: path)
    if reader.isImage {
      guard let frame = try reader.next() else { return [] }
      return [try frame.thumbnail(side: imageSide, quality: 3)]
    }
    let count = try reader.frameCount.value ?? VideoReader.countFrames(path: path)
    let places = framePlaces(count: count, rate: reader.frameRate.value, fps: fps)
    var frames: [Data] = []
    var next = 0
    while next < places.count, let frame = try reader.nextFrame() {
      guard frame.index == places[next] else { continue }
      frames.append(try frame.rgb().thumbnail(side: frameSide, quality: 3))
      next += 1
    }
    return frames
  }

  /// The indices of the sampled frames: floor(i * count / n), all different.
  static func framePlaces(count: Int, rate: Double, fps: Double) -> [Int] {
    let wanted = Double(count) / max(rate, 1e-3) * fps
    let sampled = min(min(Double(maxFrames), max(wanted, Double(minFrames))), Double(max(count, 1)))
    let number = max(1, Int(sampled))
    return (0..<number).map { $0 * max(count, 1) / number }
  }

  /// The clip's audio as a WAV with one channel of 16 kHz; nil for a clip without audio.
  ///
  /// - Throws: `MediaError` for audio that can't be decoded.
  static func audio(of path: String) throws -> Data? {
    do {
      let samples = try MonoAudio.read(path: path, sampleRate: sampleRate)
      return samples.isEmpty
        ? nil : try WAVWriter.data([samples], sampleRate: sampleRate, path: path)
    } catch let error as MediaError where error.kind == .noStream {
      return nil
    }
  }
}
