// F frames, H rows, W columns of pixels.

import LanguageModels
import Media
import Support
import Torch

/// A media file in the form in which an omni model sees and hears it: an image, or the chosen
/// frames of a clip and its audio, or audio alone.
public struct CaptionClip: Sendable {
  public let path: String
  /// [3, H, W], uint8; nil for a file that is not an image.
  public let image: Tensor?
  /// [F, 3, H, W], uint8: the chosen frames, scaled; nil for a file without frames.
  public let frames: Tensor?
  /// Mono samples at 16 kHz, -1 to 1; nil for a file without audio.
  public let audio: [Float]?
  /// Notes for the user, a clause each.
  public let notes: [String]

  public init(
    path: String, image: Tensor? = nil, frames: Tensor? = nil, audio: [Float]? = nil,
    notes: [String] = []
  ) {
    self.path = path
    self.image = image
    self.frames = frames
    self.audio = audio
    self.notes = notes
  }

  /// Audio shorter than this, in samples, has no token in some model.
  private static let shortestAudio = 800

  /// Reads a file. Frames are scaled as they are decoded, so that only the small ones are kept.
  ///
  /// - Parameters:
  ///   - readsAudio: Whether the audio of a clip is read. If it can't be decoded, a note says so.
  ///   - options: `fps` and the bounds of sizes are used.
  /// - Throws: `MediaError` for a file that can't be decoded, `Issue` for one that the model can't
  ///   take.
  public static func read(
    path: String, processor: QwenOmniProcessor, options: QwenOmniProcessor.Options,
    readsAudio: Bool = true
  ) throws -> CaptionClip {
    // Audio files may have a cover image, which is not what they are about.
    if MediaExtension(ofFile: path)?.kind == .audio { return try audioOnly(path, processor) }
    let reader: VideoReader
    do {
      reader = try VideoReader(path: path)
    } catch let error as MediaError where error.kind == .noStream {
      return try audioOnly(path, processor)
    }
    if reader.isImage {
      guard let image = try reader.next() else {
        throw MediaError(
          .decoding, file: path, "holds no image", remedy: "Save or copy the image again.")
      }
      return CaptionClip(
        path: path,
        image: try naming(path) { try processor.scaledImage(tensor(image), options) },
        notes: reader.colorNotes)
    }
    let hasAudio = reader.hasAudio
    var (frames, notes) = try Self.frames(reader, processor, options)
    var audio: [Float]?
    if readsAudio, hasAudio {
      do {
        let samples = try MonoAudio.read(path: path, sampleRate: sampleRate)
        if samples.count >= shortestAudio {
          audio = samples
          notes += cutNotes(samples, processor)
        } else {
          notes.append("its audio of \(samples.count * 1000 / sampleRate) ms was left out")
        }
      } catch let error as MediaError where [.noStream, .decoding].contains(error.kind) {
        notes.append("its audio was left out: \(error.what)")
      }
    }
    return CaptionClip(path: path, frames: frames, audio: audio, notes: notes)
  }

  /// The sample rate of the audio that omni models hear.
  public static let sampleRate = 16_000

  private static func audioOnly(
    _ path: String, _ processor: QwenOmniProcessor
  ) throws -> CaptionClip {
    let samples = try MonoAudio.read(path: path, sampleRate: sampleRate)
    guard samples.count >= shortestAudio else {
      throw MediaError(
        .decoding, file: path, "has only \(samples.count * 1000 / sampleRate) ms of audio",
        remedy: "Leave it out.")
    }
    return CaptionClip(path: path, audio: samples, notes: cutNotes(samples, processor))
  }

  private static func cutNotes(_ samples: [Float], _ processor: QwenOmniProcessor) -> [String] {
    guard let limit = processor.heardSeconds, samples.count > limit * sampleRate else { return [] }
    return ["the model hears only the first \(limit) s of its audio"]
  }

  /// The chosen frames of a clip.
  ///
  /// The container says how many frames there are; if that turns out to be wrong, frames are chosen
  /// again by the number that was decoded.
  private static func frames(
    _ first: VideoReader, _ processor: QwenOmniProcessor, _ options: QwenOmniProcessor.Options
  ) throws -> (Tensor, notes: [String]) {
    var reader = first
    var count = try reader.frameCount.value ?? VideoReader.countFrames(path: reader.path)
    for isRepeated in [false, true] {
      let chosen = try naming(reader.path) {
        try FrameSampling.indices(
          count: max(1, count), rate: reader.frameRate.value, fps: options.fps)
      }
      var remaining = chosen[...]
      var scaled: [Tensor] = []
      while let frame = try reader.nextFrame() {
        guard frame.index == remaining.first else { continue }
        let pixels = try tensor(frame.rgb())
        let small = try naming(reader.path) {
          try processor.scaledFrames(pixels.unsqueeze(0), options)
        }
        while frame.index == remaining.first {
          remaining.removeFirst()
          scaled.append(small)
        }
      }
      if reader.framesRead == count {
        return (try Tensor.cat(scaled), reader.colorNotes + damage(reader.ending))
      }
      count = reader.framesRead
      if !isRepeated { reader = try VideoReader(path: reader.path) }
    }
    throw MediaError(
      .decoding, file: reader.path, "has another number of frames each time it is read",
      remedy: "Wait until the file is complete.")
  }

  private static func damage(_ ending: Ending) -> [String] { [ending.damage].compactMap { $0 } }

  /// [3, H, W], uint8
  private static func tensor(_ frame: RGBFrame) throws -> Tensor {
    try Tensor(frame.bytes, shape: [frame.height, frame.width, 3]).permute([2, 0, 1]).contiguous()
  }

  /// Runs `body`, and adds the file to its issues.
  private static func naming<R>(_ path: String, _ body: () throws -> R) throws -> R {
    do {
      return try body()
    } catch let issue as Issue {
      throw issue.within(.file(path))
    }
  }

  /// The parts of a user's turn: the image or the frames, then audio as a part of its own, unless
  /// it is interleaved with the frames.
  public func parts(isInterleaved: Bool) -> [QwenOmniMessage.Part] {
    var parts: [QwenOmniMessage.Part] = []
    if let image { parts.append(.image(image)) }
    if let frames {
      parts.append(.video(QwenOmniClip(frames: frames, audio: isInterleaved ? audio : nil)))
    }
    if let audio, frames == nil || !isInterleaved { parts.append(.audio(audio)) }
    return parts
  }
}
