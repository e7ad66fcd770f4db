import Foundation
import Media
import Support
import Torch

/// What a page shows of one sample.
struct ClipPreview {
  /// The part of a picture that the bucket takes, in shares of its width and height.
  struct Crop: Equatable {
    let left: Double
    let top: Double
    let width: Double
    let height: Double

    /// Nil where the whole picture is taken, but for less than a half percent.
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
  /// Seconds; 0 for a picture.
  let duration: Double?
  let fps: Double?
  let tokens: Int?
  /// Kinds of cached files beside latents and text features.
  let extras: [String]
  let problems: [String]
  /// From the page to the media file, which plays there.
  var link: String?
  /// Width over height of the frames.
  fileprivate(set) var aspect = 1.0
  /// JPEGs of frames from the media file.
  fileprivate(set) var frames: [Data] = []
  fileprivate(set) var crop: Crop?
  /// How loud the sound is over the clip's time, or in its first minute, 0 to 1; empty without
  /// sound.
  fileprivate(set) var wave: [Float] = []
  /// Why there are no pictures.
  fileprivate(set) var note: String?
}

extension ClipPreview {
  /// Seconds of sound that are listened to where no bucket says how many.
  private static let usualLength = 60.0

  /// Columns of a waveform.
  static let waveColumns = 240

  /// Adds what the media file shows.
  ///
  /// - Parameters:
  ///   - sound: another file with the sound.
  ///   - bucket: which of the file's frames count, and what of them.
  ///   - count: of pictures; 0 for the sound only.
  ///   - side: of a picture's longer side in pixels.
  mutating func look(
    at path: String, audio: String?, bucket: ResolutionBucket?, count: Int, side: Int
  ) {
    guard FileManager.default.fileExists(atPath: path) else {
      note = "the media file is not there" + (MissingFile.hint(path).map { ". \($0)" } ?? "")
      link = nil
      return
    }
    do {
      if count > 0 { try addFrames(path, bucket, count: count, side: side) }
    } catch let error as MediaError where error.kind == .noStream {
      // sound alone
    } catch {
      note = describe(error)
    }
    do {
      let length = duration.flatMap { $0 > 0 ? $0 : nil } ?? Self.usualLength
      wave = Self.wave(try AudioClip.read(path: audio ?? path, duration: length))
    } catch {
      wave = []  // without sound, or with one that can't be decoded; preprocessing says so
    }
  }

  private mutating func addFrames(
    _ path: String, _ bucket: ResolutionBucket?, count: Int, side: Int
  ) throws {
    var reader = try VideoReader(path: path)
    let said = max(1, bucket?.frames ?? min(reader.frameCount.value ?? 97, 1000))
    var (found, decoded) = try Self.frames(of: reader, total: said, count: count, side: side)
    if decoded < said, found.count < min(count, decoded) {
      // The container counts more frames than there are.
      reader = try VideoReader(path: path)
      (found, decoded) = try Self.frames(of: reader, total: decoded, count: count, side: side)
    }
    frames = found
    aspect = Double(reader.width) * reader.pixelAspect.value / Double(reader.height)
    crop = bucket.flatMap { Crop(of: (reader.width, reader.height), bucket: $0) }
  }

  /// Frames at even distances among the first `total`, and how many frames were decoded.
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

  /// Adds frames that latents decode to.
  ///
  /// - Throws: what keeps the decoder from decoding anything; what is wrong with these latents
  ///   becomes the note.
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

  /// Even distances, the first and the last among them.
  private static func places(_ count: Int, of total: Int) -> Set<Int> {
    let count = min(count, total)
    return Set((0..<count).map { count == 1 ? 0 : $0 * (total - 1) / (count - 1) })
  }

  /// The largest sample of each column, of either channel.
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

/// How many bytes of pictures a page may hold, shared by its clips.
struct ImageBudget {
  /// A thumbnail of 200 pixels takes about 7 KB, one of 480 pixels some 30 KB.
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

  /// Whether there is room for another clip.
  var hasRoom: Bool { left > 0 }

  mutating func spend(_ bytes: Int) { left -= bytes }
}
