// N samples, T latent time steps.

import Foundation
import Generation
import LTX
import Media
import TensorFiles
import Torch

/// Audio that is ready for the audio VAE.
struct PreparedAudio: Sendable {
  let audio: AudioClip
  let level: SampleLevel
  /// Notes for the user about the audio, one clause each.
  let notes: [String]
}

/// Reads audio and its masks.
struct SampleAudioReader: Sendable {
  /// Whether audio is read as upstream does, which ignores timestamps and returns no audio if a
  /// part can't be decoded.
  var isCompatible = false
  /// The audio track of clips, and of other files that have several.
  var track = AudioTrackChoice.automatic

  /// The offset between video and audio above which viewers notice it, in seconds.
  private static let tolerance = 0.04
  /// The max length of the audio of one clip, in seconds. Longer files aren't clips or have wrong
  /// times.
  private static let longest = 3600.0
  /// The peak above which a note is given, in dB of full scale. Lossy codecs overshoot full scale a
  /// little.
  private static let loudest = 3.0

  /// Reads the audio that belongs to a clip's frames, cut to their length or padded with silence.
  ///
  /// - Parameters:
  ///   - seconds: The length of the frames.
  ///   - start: The time of the first frame on the container's clock; nil for audio from another
  ///     file.
  /// - Throws: `MediaError`; of kind `.noStream` if there is no audio.
  func read(_ path: String, seconds: Double, start: Double?) throws -> PreparedAudio {
    guard seconds <= Self.longest else {
      throw MediaError(
        .badOption, file: path,
        String(format: "its frames last %.4g s, which is too long for one sample", seconds),
        remedy: "Check the clip's frame rate, or use a bucket with fewer frames.")
    }
    var decoded = try decode(path, from: start, maxSeconds: seconds, isClip: start != nil)
    var notes: [String] = []
    if !isCompatible, start != nil, decoded.startSeconds < -Self.tolerance {
      notes.append(
        String(
          format: "its audio starts %.3f s before the video; that part is dropped",
          -decoded.startSeconds))
    } else if !isCompatible, start != nil, decoded.startSeconds > Self.tolerance {
      notes.append(
        String(
          format: "its audio starts %.3f s after the video; silence comes before it",
          decoded.startSeconds))
    }
    let wanted = Int(seconds * Double(decoded.sampleRate))
    let missing = wanted - (decoded.channels.first?.count ?? 0)
    if missing > 0 {
      if Double(missing) > Self.tolerance * Double(decoded.sampleRate) {
        notes.append(
          String(
            format: "its audio ends %.3f s early; silence follows",
            Double(missing) / Double(decoded.sampleRate)))
      }
      let silence = [Float](repeating: 0, count: missing)
      decoded.channels = decoded.channels.map { $0 + silence }
    } else if missing < 0 {
      decoded.channels = decoded.channels.map { Array($0.prefix(wanted)) }
    }
    return prepared(decoded, notes)
  }

  /// Reads audio without a clip.
  ///
  /// - Parameters:
  ///   - maxSeconds: the max length, in seconds.
  ///   - durations: the lengths to choose from, in seconds. The longest one that the audio fills is
  ///     used; empty for the whole audio.
  /// - Returns: the audio, its length in the file, and the used length, in seconds.
  /// - Throws: `MediaError`, also for audio that is shorter than all durations.
  func read(_ path: String, maxSeconds: Double?, durations: [Double]) throws -> (
    audio: PreparedAudio, length: Double, seconds: Double
  ) {
    var decoded = try decode(path, from: nil, maxSeconds: durations.isEmpty ? maxSeconds : nil)
    let length = Double(decoded.channels[0].count) / Double(decoded.sampleRate)
    var seconds = length
    if let shortest = durations.min() {
      guard let duration = Self.duration(of: length, among: durations) else {
        throw MediaError(
          .badOption, file: path,
          String(format: "lasts %.3g s, but the shortest duration is %.3g s", length, shortest),
          remedy: "Add a shorter duration, or remove the row.")
      }
      seconds = duration
      let samples = Int(duration * Double(decoded.sampleRate))
      decoded.channels = decoded.channels.map { Array($0.prefix(samples)) }
    }
    return (prepared(decoded, []), length, seconds)
  }

  private func prepared(_ decoded: DecodedAudio, _ own: [String]) -> PreparedAudio {
    let audio = decoded.stereo()
    let level = SampleLevel(audio.channels)
    var notes = decoded.notes + own
    if let damage = decoded.damage { notes.append(Self.note(damage)) }
    if let silence = level.silenceNote { notes.append(silence) }
    if level.peak > Self.loudest {
      notes.append(
        String(format: "its audio exceeds full scale by %.1f dB, and is not limited", level.peak))
    }
    return PreparedAudio(audio: audio, level: level, notes: notes)
  }

  /// Returns the length of the audio that is used, in seconds; nil for audio that is shorter than
  /// all durations.
  static func duration(of length: Double, among durations: [Double]) -> Double? {
    durations.isEmpty ? length : durations.filter { $0 <= length }.max()
  }

  private static func note(_ damage: String) -> String {
    "its audio is damaged and was decoded as far as possible (\(damage)); upstream uses none of it"
  }

  /// - Parameters:
  ///   - start: the time on the container's clock; nil for the start of the file.
  ///   - isClip: whether the file is a clip, which must have the requested track.
  private func decode(
    _ path: String, from start: Double?, maxSeconds: Double?, isClip: Bool = false
  ) throws -> DecodedAudio {
    var track = track
    if !isClip, track != .automatic, try AudioReader.trackCount(path: path) <= 1 {
      track = .automatic
    }
    guard isCompatible else {
      return try DecodedAudio.placed(path: path, from: start, seconds: maxSeconds, track: track)
    }
    let decoded = try DecodedAudio.read(
      path: path, maximumSeconds: maxSeconds, track: track == .automatic ? .first : track)
    if let damage = decoded.damage {
      throw MediaError(
        .decoding, file: path,
        "its audio is damaged, and upstream mode uses no damaged audio (\(damage))",
        remedy: "Convert the file again, or don't follow upstream.")
    }
    return decoded
  }

  // MARK: Masks

  /// Reads the mask of audio for T time steps: [T], float32, 1 where the audio is conditioned and
  /// not generated.
  ///
  /// The mask is audio of the same length with values of 0 and 1, or a tensor of any length in a
  /// `.pt` or safetensors file, which is stretched. A step is 1 if its mean level is above 0.5. In
  /// upstream mode (`isCompatible`), audio is stretched too, and each step uses a single sample.
  ///
  /// - Parameters:
  ///   - steps: T
  ///   - configuration: The audio VAE's, which gives the length of a step.
  func mask(_ path: String, steps: Int, configuration: AudioVAEConfiguration) throws -> Tensor {
    if path.hasSuffix(".pt") || path.hasSuffix(".safetensors") {
      let file = try SampleFile(path: path)
      guard let key = file.has("mask") ? "mask" : file.tensorNames.first else {
        throw MediaError(
          .notMedia, file: path, "holds no tensor", remedy: "Save the mask as \"mask\".")
      }
      return try AudioMask(file.tensor(key)).steps(steps)
    }
    let decoded = try decode(path, from: nil, maxSeconds: nil)
    return try AudioMask(decoded.channels, sampleRate: decoded.sampleRate).steps(
      steps, isCompatible ? .nearest : .mean(configuration.tokens))
  }
}
