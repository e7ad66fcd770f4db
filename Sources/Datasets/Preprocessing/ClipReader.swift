import Foundation
import Generation
import Media
import Torch

/// A clip, ready for the video VAE.
struct Clip: Sendable {
  /// [1, 3, F, H, W], float32, -1 to 1.
  let pixels: Tensor
  /// Frames per second, from the container; 1 for an image.
  let frameRate: Double
  let bucket: ResolutionBucket
  /// The size that the aspect ratio was computed from.
  let shape: Shape
  /// The number of frames in the file, as far as reading has shown.
  let available: FrameSupply
  let hasAudio: Bool
  let isImage: Bool
  /// The time of the first frame, on the clock that the audio shares.
  let start: Double
  /// Notes for the user about the clip, one clause each.
  let notes: [String]
  /// The color conversions.
  let colorNotes: [String]
  /// The corrections that upstream does not make.
  let corrections: Set<Correction>
  /// A clause that names the damaged frames; nil if there are none.
  let damage: String?

  /// The color conversions, for the metadata of the latents.
  var colorFields: [Fingerprint.Key: String] {
    colorNotes.isEmpty ? [:] : [.color: colorNotes.joined(separator: "; ")]
  }

  enum Correction: Hashable, Sendable, CaseIterable {
    case turned, reshaped, deinterlaced
  }

  /// The width and height of the upright image, scaled by the shape of non-square pixels.
  struct Shape: Equatable, Sendable, CustomStringConvertible {
    let width: Int
    let height: Int

    init(width: Int, height: Int) { (self.width, self.height) = (width, height) }

    init?(_ text: String) {
      let parts = text.split(separator: "x").compactMap { Int($0) }
      guard parts.count == 2, parts.allSatisfy({ $0 > 0 }) else { return nil }
      self.init(width: parts[0], height: parts[1])
    }

    var description: String { "\(width)x\(height)" }
  }

  /// The number of frames in a file.
  enum FrameSupply: Equatable, Sendable, CustomStringConvertible {
    case exactly(Int)
    /// At least this number, after which reading stopped.
    case atLeast(Int)

    init?(_ text: String) {
      guard let count = Int(text.hasSuffix("+") ? text.dropLast() : text[...]) else { return nil }
      self = text.hasSuffix("+") ? .atLeast(count) : .exactly(count)
    }

    var description: String {
      switch self {
      case .exactly(let count): "\(count)"
      case .atLeast(let count): "\(count)+"
      }
    }
  }
}

extension ClipReader {
  /// A reader that follows the options of a run.
  init(_ options: PreprocessingOptions, buckets: [ResolutionBucket]) {
    self.init(
      buckets: buckets, frameRate: options.frameRate, isCompatible: options.isCompatible,
      deinterlaces: options.deinterlaces, isStrict: options.isStrict, color: options.color)
  }
}

/// Reads clips at the size of the bucket that fits best.
struct ClipReader: Sendable {
  let buckets: [ResolutionBucket]
  /// The frame rate that clips are converted to; nil keeps the rate of each clip.
  var frameRate: Double?
  /// Whether clips are read as upstream does, ignoring rotation, the shape of pixels, and variable
  /// frame rates.
  var isCompatible = false
  /// Whether interlaced frames are deinterlaced to one image each.
  var deinterlaces = true
  /// Whether a clip with damaged frames is refused.
  var isStrict = false
  /// The conversion of colors to RGB. Upstream mode ignores it.
  var color = ColorOptions()

  /// Checks a clip without decoding it.
  ///
  /// - Throws: `MediaError` for a file that is missing, is not media, or is too short for every
  ///   bucket.
  func check(_ path: String) throws {
    let reader = try VideoReader(path: path, deinterlaces: false, looksAtFrames: false)
    // Headers can be wrong, so the frames of a clip that seems too short are counted.
    guard frameRate == nil, let count = reader.frameCount.value, count < shortest else { return }
    let found = try VideoReader.countFrames(path: path, upTo: shortest)
    // If frames are missing, repeated frames fill the bucket.
    let shown = reader.duration.map { Int(min($0 * reader.frameRate.value, 1e9).rounded()) } ?? 0
    try requireLength(
      isCompatible || reader.isImage ? found : max(found, min(shown, shortest)), path)
  }

  /// Reads the first frames of a clip, as many as its bucket has, scaled and cropped to the
  /// bucket's size.
  ///
  /// The bucket depends on the number of frames that can be decoded, and the container's number may
  /// be wrong. So the bucket for a long clip is tried first, and a clip that ends early is read
  /// again for a shorter one.
  ///
  /// - Throws: The errors of `check`, `MediaError` for frames that can't be decoded, and `Issue`
  ///   for extreme shapes.
  func read(_ path: String) throws -> Clip {
    let first = try open(path)
    let shape = shape(of: first)
    var available: Int? = first.isImage ? 1 : nil
    var change: FrameCountChange?
    var ending = Ending.complete
    func best(_ frames: Int?) -> ResolutionBucket? {
      buckets.best(
        width: shape.width, height: shape.height, frames: frames, keepsMotion: !isCompatible)
    }
    while true {
      guard let bucket = best(available) else {
        throw tooShort(available ?? 0, path, ending, change)
      }
      let (frames, reader, rate, clock) = try frames(path, count: bucket.frames) {
        try FrameTensors.filled(
          $0, (bucket.width, bucket.height), shape: (shape.width, shape.height))
      }
      if frames.count == bucket.frames {
        let damage = try reader.damage().map {
          reader.isImage ? "the image is damaged" : $0.description
        }
        if isStrict, let damage {
          throw MediaError(
            .decoding, file: path, damage,
            remedy: "Get a complete copy of the file, remove the row, or allow damaged frames.")
        }
        return Clip(
          pixels: try FrameTensors.stack(frames), frameRate: rate, bucket: bucket, shape: shape,
          available: available.map { .exactly($0) } ?? .atLeast(bucket.frames),
          hasAudio: reader.hasAudio,
          isImage: reader.isImage, start: reader.firstSeconds ?? 0,
          notes: notes(reader, clock, damage, available, ending)
            + bucketNotes(bucket, reader, available, change, best(change?.source)),
          colorNotes: reader.colorNotes, corrections: corrections(reader), damage: damage)
      }
      available = frames.count
      ending = reader.ending
      change = FrameCountChange(
        source: reader.framesRead, rate: reader.frameRate.value, frames: frames.count,
        newRate: rate,
        isAsked: frameRate != nil)
    }
  }

  /// Reads the first `count` frames of a file, or fewer if it ends early.
  ///
  /// - Parameter make: converts each frame.
  /// - Returns: the frames, their reader, their rate, and how their times agree with it.
  func frames<Result>(
    _ path: String, count: Int, _ make: (VideoFrame) throws -> Result
  ) throws -> (frames: [Result], reader: VideoReader, rate: Double, clock: FrameClock.Reading) {
    let reader = try open(path)
    let ownRate = reader.isImage ? 1 : reader.frameRate.value
    if let frameRate, !reader.isImage {
      let length = max(1 / frameRate, 1 / ownRate)
      return (
        try FrameTimeline.steady(count, of: reader, rate: frameRate, length: length, make), reader,
        frameRate,
        .asDeclared
      )
    }
    let (frames, clock) = try FrameTimeline.first(count, of: reader, make)
    switch clock {
    case .gaps(let rate, _) where !isCompatible, .uneven(let rate) where !isCompatible:
      let again = try open(path)
      return (
        try FrameTimeline.steady(count, of: again, rate: rate, length: 1 / rate, make), again, rate,
        clock
      )
    case .asDeclared, .gaps, .uneven: return (frames, reader, ownRate, .asDeclared)
    }
  }

  func open(_ path: String) throws -> VideoReader {
    let color = isCompatible ? .upstream : color
    let reader = try VideoReader(
      path: path, deinterlaces: deinterlaces && !isCompatible, color: color)
    guard isCompatible, !reader.isImage, reader.orientation != .upright else { return reader }
    return try VideoReader(path: path, applyRotation: false, deinterlaces: false, color: color)
  }

  func shape(of reader: VideoReader) -> Clip.Shape {
    let aspect = isCompatible || reader.isImage ? Rational(1) : reader.pixelAspect
    return Clip.Shape(
      width: reader.width * aspect.numerator, height: reader.height * aspect.denominator)
  }

  private func notes(
    _ reader: VideoReader, _ clock: FrameClock.Reading, _ damage: String?, _ available: Int?,
    _ ending: Ending
  ) -> [String] {
    var notes: [String] = []
    if reader.hasUnusedProfile {
      notes.append(
        "its color profile can't be converted, so its colors are read as sRGB. Save it as sRGB")
    }
    if let degrees = reader.unusedRotation, !isCompatible {
      notes.append(Self.note(rotation: degrees))
    }
    notes += reader.colorNotes
    if let damage { notes.append("\(damage). Get a complete copy of the clip, or remove the row") }
    if let obstacle = reader.deinterlacingObstacle {
      notes.append(
        "it is interlaced, and was not deinterlaced: \(obstacle); deinterlace it with a video editor first"
      )
    }
    switch clock {
    case .asDeclared: break
    case .gaps(let rate, let count):
      notes.append(
        String(
          format:
            "%@ missing, or frames are shown longer: frames were repeated to keep %.5g per second",
          count == 1 ? "1 frame is" : "\(count) frames are", rate))
    case .uneven(let rate):
      notes.append(
        String(
          format:
            "its frame rate varies, or differs from the container's: frames were dropped or repeated "
            + "to make %.5g per second", rate))
    }
    if available != nil, case .damaged(let reason) = ending {
      notes.append("a shorter bucket was chosen, because \(reason)")
    }
    return notes
  }

  private static func note(rotation degrees: Double) -> String {
    degrees.isNaN
      ? "its display matrix is not a rotation, and was ignored. Save the clip upright"
      : String(
        format:
          "it asks to be rotated by %.1f degrees, which is not a multiple of 90, and was not rotated. "
          + "Rotate it with a video editor first", degrees)
  }

  private func corrections(_ reader: VideoReader) -> Set<Clip.Correction> {
    guard !isCompatible, !reader.isImage else { return [] }
    var corrections: Set<Clip.Correction> = []
    if reader.orientation != .upright { corrections.insert(.turned) }
    if reader.pixelAspect.value != 1 { corrections.insert(.reshaped) }
    if reader.isDeinterlaced { corrections.insert(.deinterlaced) }
    return corrections
  }

  private var shortest: Int { buckets.map(\.frames).min() ?? 1 }

  private func requireLength(_ count: Int, _ path: String) throws {
    if count < shortest { throw tooShort(count, path, .complete) }
  }

  private func tooShort(
    _ count: Int, _ path: String, _ ending: Ending, _ change: FrameCountChange? = nil
  ) -> MediaError {
    var what =
      "has \(count) frame\(count == 1 ? "" : "s"), but the shortest bucket needs \(shortest)"
    if let words = change?.words { what = "\(words), but the shortest bucket needs \(shortest)" }
    if case .damaged(let reason) = ending { what += " (\(reason))" }
    return MediaError(
      .badOption, file: path, what,
      remedy: "Add a shorter bucket or remove the row."
    )
  }
}
