// N samples, T latent time steps.

import Foundation
import Generation
import LTX
import Media
import TensorFiles
import Torch

/// Audio, ready for the audio VAE.
struct PreparedAudio: Sendable {
  let audio: AudioClip
  let level: SampleLevel
  /// What is worth knowing, a clause each.
  let notes: [String]
}

/// Reads audio and its masks.
struct SampleAudioReader: Sendable {
  /// Reads like upstream: no audio at all where a part of it can't be decoded, and without regard
  /// to its time stamps.
  var isCompatible = false
  /// The audio track of clips, and of other files that have several.
  var track = AudioTrackChoice.automatic

  /// Lips and voices that are further apart than this are seen to be.
  private static let tolerance = 0.04
  /// The longest audio of one clip, in seconds. Anything longer is not a clip, or has wrong times.
  private static let longest = 3600.0
  /// Samples above this are told, in dB of full scale: decoders of lossy codecs overshoot a little.
  private static let loudest = 3.0

  /// The audio that goes with a clip's frames: cut to their length, or filled up with silence.
  ///
  /// - Parameters:
  ///   - seconds: of the frames.
  ///   - start: when the first frame is shown, on the container's clock; nil for audio from another
  ///     file.
  /// - Throws: `MediaError`: `.noStream` where there is no audio.
  func read(_ path: String, seconds: Double, start: Double?) throws -> PreparedAudio {
    guard seconds <= Self.longest else {
      throw MediaError(
        .badOption, file: path,
        String(format: "its frames last %.4g s, which is too long for one sample", seconds),
        remedy: "Check the clip's frame rate, or take fewer frames.")
    }
    var decoded = try decode(path, from: start, most: seconds, isClip: start != nil)
    var notes: [String] = []
    if !isCompatible, start != nil, decoded.startSeconds < -Self.tolerance {
      notes.append(
        String(
          format: "its audio starts %.3f s before the image; that part is left out",
          -decoded.startSeconds))
    } else if !isCompatible, start != nil, decoded.startSeconds > Self.tolerance {
      notes.append(
        String(
          format: "its audio starts %.3f s after the image; silence comes before it",
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

  /// Audio by itself.
  ///
  /// - Parameters:
  ///   - most: seconds that are taken at the most.
  ///   - durations: seconds, of which the longest that the audio fills is taken; empty for the
  ///     whole.
  /// - Returns: besides, how long the file's audio is, and how much of it is taken, in seconds.
  /// - Throws: `MediaError`, also for audio that is shorter than all durations.
  func read(_ path: String, most: Double?, durations: [Double]) throws -> (
    audio: PreparedAudio, length: Double, seconds: Double
  ) {
    var decoded = try decode(path, from: nil, most: durations.isEmpty ? most : nil)
    let length = Double(decoded.channels[0].count) / Double(decoded.sampleRate)
    var seconds = length
    if let shortest = durations.min() {
      guard let duration = Self.duration(of: length, among: durations) else {
        throw MediaError(
          .badOption, file: path,
          String(format: "lasts %.3g s, but the shortest duration is %.3g s", length, shortest),
          remedy: "Add a shorter one to --audio-durations, or remove the row.")
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

  /// How much is taken of a sound that decides on its length itself; nil for one that is shorter
  /// than all durations.
  static func duration(of length: Double, among durations: [Double]) -> Double? {
    durations.isEmpty ? length : durations.filter { $0 <= length }.max()
  }

  private static func note(_ damage: String) -> String {
    "its audio is damaged, and was read as far as it can be (\(damage)); upstream takes none of it"
  }

  /// - Parameters:
  ///   - start: on the container's clock; nil for the file's beginning.
  ///   - isClip: whether the file is a clip, which must have the track that is asked for.
  private func decode(
    _ path: String, from start: Double?, most: Double?, isClip: Bool = false
  ) throws -> DecodedAudio {
    var track = track
    if !isClip, track != .automatic, try AudioReader.trackCount(path: path) <= 1 {
      track = .automatic
    }
    guard isCompatible else {
      return try DecodedAudio.placed(path: path, from: start, seconds: most, track: track)
    }
    let decoded = try DecodedAudio.read(
      path: path, maximumSeconds: most, track: track == .automatic ? .first : track)
    if let damage = decoded.damage {
      throw MediaError(
        .decoding, file: path, "its audio is damaged, so there is none with --compat (\(damage))",
        remedy: "Leave --compat out, or convert the file again.")
    }
    return decoded
  }

  // MARK: Masks

  /// A mask of a sound for T time steps: [T], float32, 1 where the sound is given and not
  /// generated.
  ///
  /// The mask is a sound as long as the other, in which 1 and 0 alternate; or a tensor of any
  /// length in a `.pt` or safetensors file, which is stretched. A step is 1 where the mean of its
  /// time is above 0.5. In the reference's way (`isCompatible`), a sound is stretched too, and one
  /// sample speaks for each step.
  ///
  /// - Parameters:
  ///   - steps: T
  ///   - configuration: of the audio VAE, for what a step spans.
  func mask(_ path: String, steps: Int, configuration: AudioVAEConfiguration) throws -> Tensor {
    if path.hasSuffix(".pt") || path.hasSuffix(".safetensors") {
      let file = try SampleFile(path: path)
      guard let key = file.has("mask") ? "mask" : file.tensorNames.first else {
        throw MediaError(
          .notMedia, file: path, "holds no tensor", remedy: "Save the mask as \"mask\".")
      }
      return try nearest(file.tensor(key).to(.float32).flatten(from: 0, through: -1), steps)
    }
    let decoded = try decode(path, from: nil, most: nil)
    let count = Float(decoded.channels.count)
    var level = [Float](repeating: 0, count: decoded.channels[0].count)
    for channel in decoded.channels {
      for i in level.indices { level[i] += abs(channel[i]) / count }
    }
    if isCompatible { return try nearest(Tensor(level, shape: [level.count]), steps) }
    let tokens = configuration.tokens
    let marks = (0..<steps).map { step -> Float in
      let (start, end) = tokens.seconds(of: step)
      let (first, last) = (
        Int(start * Double(decoded.sampleRate)), Int(end * Double(decoded.sampleRate))
      )
      let samples = level[min(first, level.count)..<min(max(first + 1, last), level.count)]
      return !samples.isEmpty && samples.reduce(0, +) / Float(samples.count) > 0.5 ? 1 : 0
    }
    return try Tensor(marks, shape: [steps])
  }

  private func nearest(_ level: Tensor, _ steps: Int) throws -> Tensor {
    guard level.count > 0 else { return try .zeros([steps]) }
    return try level.unsqueeze(0).unsqueeze(0).unsqueeze(0).resizeNearest([1, steps]).flatten(
      from: 0, through: -1
    )
    .greater(than: 0.5).to(.float32)
  }
}
