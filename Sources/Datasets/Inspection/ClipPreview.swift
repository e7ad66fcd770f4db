import Foundation
import Media
import Support
import Torch

/// A sample on a page.
struct ClipPreview {
  /// The part of an image that the bucket uses, as fractions of its width and height.
  struct Crop: Equatable {
    let left: Double
    let top: Double
    let width: Double
    let height: Double

    /// Nil if the bucket uses the complete image, except for less than half a percent.
    init?(of source: (width: Int, height: Int), bucket: ResolutionBucket) {
      let (wide, high) = (
        Double(source.width) * Double(bucket.height), Double(source.height) * Double(bucket.width)
      )
      guard wide > 0, high > 0, max(wide, high) > 1.005 * min(wide, high) else { return nil }
      (width, height) = (min(1, high / wide), min(1, wide / high))
      (left, top) = ((1 - width) / 2, (1 - height) / 2)
    }
  }

  let name: String
  /// The line in the dataset file.
  let line: Int?
  let caption: String?
  let bucket: String?
  /// Seconds; 0 for an image.
  let duration: Double?
  let fps: Double?
  let tokens: Int?
  /// The kinds of cached files besides latents and text features.
  let extras: [String]
  let problems: [String]
  /// The link from the page to the media file.
  var link: String?
  /// The width of the frames divided by their height.
  fileprivate(set) var aspect = 1.0
  /// JPEGs of frames from the media file.
  fileprivate(set) var frames: [Data] = []
  fileprivate(set) var crop: Crop?
  /// The level of the audio over the clip's length, or over its first minute, from 0 to 1; empty
  /// without audio.
  fileprivate(set) var wave: [Float] = []
  /// The reason why the page shows no images.
  fileprivate(set) var note: String?
}

extension ClipPreview {
  /// The number of seconds of audio that is read if no bucket gives the length.
  private static let usualLength = 60.0

  /// The number of columns of a waveform.
  static let waveColumns = 240

  /// Adds frames and the waveform of the media file.
  ///
  /// - Parameters:
  ///   - audio: Another file with the audio.
  ///   - bucket: Determines which frames are used, and how they are cropped.
  ///   - count: The number of images; 0 for the audio only.
  ///   - side: The longer side of an image, in pixels.
  mutating func look(
    at path: String, audio: String?, bucket: ResolutionBucket?, count: Int, side: Int
  ) {
    guard FileManager.default.fileExists(atPath: path) else {
      note = "the media file does not exist" + (MissingFile.hint(path).map { ". \($0)" } ?? "")
      link = nil
      return
    }
    do {
      if count > 0 { try addFrames(path, bucket, count: count, side: side) }
    } catch let error as MediaError where error.kind == .noStream {
      // An audio file without video.
    } catch {
      note = describe(error)
    }
    do {
      let length = duration.flatMap { $0 > 0 ? $0 : nil } ?? Self.usualLength
      wave = Self.wave(try AudioClip.read(path: audio ?? path, duration: length))
    } catch {
      wave = []  // without audio, or with audio that can't be decoded, which preprocessing reports
    }
  }

  private mutating func addFrames(
    _ path: String, _ bucket: ResolutionBucket?, count: Int, side: Int
  ) throws {
    var reader = try VideoReader(path: path)
    let said = max(1, bucket?.frames ?? min(reader.frameCount.value ?? 97, 1000))
    var (found, decoded) = try Self.frames(of: reader, total: said, count: count, side: side)
    if decoded < said, found.count < min(count, decoded) {
      // The container counts more frames than exist.
      reader = try VideoReader(path: path)
      (found, decoded) = try Self.frames(of: reader, total: decoded, count: count, side: side)
    }
    frames = found
    aspect = Double(reader.width) * reader.pixelAspect.value / Double(reader.height)
    crop = bucket.flatMap { Crop(of: (reader.width, reader.height), bucket: $0) }
  }

  /// Returns evenly spaced frames among the first `total`, and the number of frames decoded.
  private static func frames(
    of reader: VideoReader, total: Int, count: Int, side: Int
  ) throws -> ([Data], decoded: Int) {
    let wanted = places(count, of: total)
    var found: [Data] = []
    var decoded = 0
    while decoded < total, let frame = try reader.next() {
      if wanted.contains(decoded) { found.append(try frame.thumbnail(side: side)) }
      decoded += 1
    }
    return (found, decoded)
  }

  /// Adds frames that are decoded from latents.
  ///
  /// - Throws: errors that concern all latents; an error of these latents becomes the note.
  mutating func look(atLatents path: String, _ decoder: CacheDecoder, count: Int, side: Int) throws
  {
    var wanted: Set<Int> = []
    var index = 0
    var found: [Data] = []
    do {
      try withoutGrad {
        try decoder.forEachFrame(of: path, { _ in }) {
          wanted = Self.places(count, of: $0.frames)
        } _: { frame in
          if wanted.contains(index) { found.append(try frame.thumbnail(side: side)) }
          aspect = Double(frame.width) / Double(max(1, frame.height))
          index += 1
        }
      }
      frames = found
    } catch let error as CacheDecoder.LoadingError {
      throw error.cause
    } catch let error as TorchError where error.kind == .outOfMemory {
      throw error
    } catch {
      note = describe(error)
    }
  }

  /// Returns evenly spaced positions, including the first and the last.
  private static func places(_ count: Int, of total: Int) -> Set<Int> {
    let count = min(count, total)
    return Set((0..<count).map { count == 1 ? 0 : $0 * (total - 1) / (count - 1) })
  }

  /// Returns the largest sample of each column, of either channel.
  static func wave(_ audio: AudioClip) -> [Float] {
    let columns = min(waveColumns, audio.sampleCount)
    return (0..<columns).map { column in
      let range = column * audio.sampleCount / columns..<(column + 1) * audio.sampleCount / columns
      return audio.channels.reduce(Float(0)) { largest, channel in
        channel.withUnsafeBufferPointer { samples in
          samples[range].reduce(largest) { max($0, min(1, abs($1))) }
        }
      }
    }
  }
}

/// The number of bytes of images that a page may hold, shared by its clips.
struct ImageBudget {
  /// The bytes of a thumbnail: of 200 pixels about 7 KB, of 480 pixels about 30 KB.
  private static let usual = 8000
  private static let large = 40_000

  private(set) var left: Int
  let count: Int
  let side: Int

  init(bytes: Int, clips: Int) {
    left = bytes
    let share = bytes / max(1, clips)
    count = min(4, max(1, share / Self.usual))
    side = share >= 4 * Self.large ? 480 : share >= Self.usual ? 200 : 96
  }

  /// Whether another clip may have images.
  var hasRoom: Bool { left > 0 }

  mutating func spend(_ bytes: Int) { left -= bytes }
}
