// N samples, T latent time steps.

import Foundation
import Inference
import LTX
import Media
import TensorFiles
import Torch

/// Sound, ready for the audio VAE.
struct PreparedSound: Sendable {
  let sound: SoundClip
  /// What is worth knowing, a clause each.
  let notes: [String]
}

/// Reads sounds and their masks.
struct SoundReader: Sendable {
  /// As the reference reads them: no sound at all where a part of it can't be decoded, and no heed of when it starts.
  var isCompatible = false

  /// Lips and voices that are further apart than this are seen to be.
  private static let tolerance = 0.04
  /// Seconds of sound that one clip may have: what is longer is no clip, or its times are wrong.
  private static let longest = 3600.0

  /// The sound that goes with a clip's frames: cut to their length, or filled up with silence.
  ///
  /// - Parameters:
  ///   - seconds: of the frames.
  ///   - start: when the first frame is shown, on the container's clock; nil for sound from another file.
  /// - Throws: `MediaError`: `.noStream` where there is no sound.
  func read(_ path: String, seconds: Double, start: Double?) throws -> PreparedSound {
    guard seconds <= Self.longest else {
      throw MediaError(
        .badOption, file: path,
        String(format: "its frames last %.4g s, which is too long for one sample", seconds),
        remedy: "Check the clip's frame rate, or take fewer frames.")
    }
    var notes: [String] = []
    var decoded = try decode(path, most: seconds)
    if !isCompatible, let start, abs(decoded.startSeconds - start) > Self.tolerance {
      let late = decoded.startSeconds - start
      let samples = Int((abs(late) * Double(decoded.sampleRate)).rounded())
      if late > 0 {
        let silence = [Float](repeating: 0, count: min(samples, Int(seconds * Double(decoded.sampleRate))))
        decoded.channels = decoded.channels.map { silence + $0 }
      } else if -late < Self.longest {
        decoded = try decode(path, most: seconds - late)
        decoded.channels = decoded.channels.map { Array($0.dropFirst(samples)) }
      }
      notes.append(
        String(
          format: "its sound starts %.3f s %@ the picture, and was shifted", abs(late),
          late > 0 ? "after" : "before"))
    }
    let wanted = Int(seconds * Double(decoded.sampleRate))
    let missing = wanted - (decoded.channels.first?.count ?? 0)
    if missing > 0 {
      if Double(missing) > Self.tolerance * Double(decoded.sampleRate) {
        notes.append(
          String(
            format: "its sound ends %.3f s early; silence follows",
            Double(missing) / Double(decoded.sampleRate)))
      }
      let silence = [Float](repeating: 0, count: missing)
      decoded.channels = decoded.channels.map { $0 + silence }
    } else if missing < 0 {
      decoded.channels = decoded.channels.map { Array($0.prefix(wanted)) }
    }
    if let damage = decoded.damage { notes.append(Self.note(damage)) }
    return PreparedSound(sound: decoded.stereo(), notes: notes)
  }

  /// A sound by itself.
  ///
  /// - Parameters:
  ///   - most: seconds that are taken at the most.
  ///   - durations: seconds, of which the longest that the sound fills is taken; empty for the whole.
  /// - Returns: besides, how long the file's sound is, and how much of it is taken, in seconds.
  /// - Throws: `MediaError`, also for a sound that is shorter than all durations.
  func read(_ path: String, most: Double?, durations: [Double]) throws -> (
    sound: PreparedSound, length: Double, seconds: Double
  ) {
    var decoded = try decode(path, most: durations.isEmpty ? most : nil)
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
    let notes = decoded.damage.map { [Self.note($0)] } ?? []
    return (PreparedSound(sound: decoded.stereo(), notes: notes), length, seconds)
  }

  /// How much is taken of a sound that decides on its length itself; nil for one that is shorter than all durations.
  static func duration(of length: Double, among durations: [Double]) -> Double? {
    durations.isEmpty ? length : durations.filter { $0 <= length }.max()
  }

  private static func note(_ damage: String) -> String {
    "its sound is damaged, and was read as far as it can be (\(damage)); the reference takes none of it"
  }

  private func decode(_ path: String, most: Double?) throws -> DecodedSound {
    let decoded = try DecodedSound.read(path: path, maximumSeconds: most)
    if isCompatible, let damage = decoded.damage {
      throw MediaError(
        .decoding, file: path, "its sound is damaged, so there is none with --compat (\(damage))",
        remedy: "Leave --compat out, or convert the file anew.")
    }
    return decoded
  }

  // MARK: Masks

  /// A mask of a sound for T time steps: [T], float32, 1 where the sound is given and not generated.
  ///
  /// The mask is a sound as long as the other, in which 1 and 0 alternate; or a tensor of any length in a `.pt` or
  /// safetensors file, which is stretched. A step is 1 where the mean of its time is above 0.5. In the reference's way
  /// (`isCompatible`), a sound is stretched too, and one sample speaks for each step.
  ///
  /// - Parameters:
  ///   - steps: T
  ///   - configuration: of the audio VAE, for what a step spans.
  func mask(_ path: String, steps: Int, configuration: AudioVAEConfiguration) throws -> Tensor {
    if path.hasSuffix(".pt") || path.hasSuffix(".safetensors") {
      let file = try SampleFile(path: path)
      guard let key = file.has("mask") ? "mask" : file.tensorNames.first else {
        throw MediaError(.notMedia, file: path, "holds no tensor", remedy: "Save the mask as \"mask\".")
      }
      return try nearest(file.tensor(key).to(.float32).flatten(from: 0, through: -1), steps)
    }
    let decoded = try decode(path, most: nil)
    let count = Float(decoded.channels.count)
    var level = [Float](repeating: 0, count: decoded.channels[0].count)
    for channel in decoded.channels { for i in level.indices { level[i] += abs(channel[i]) / count } }
    if isCompatible { return try nearest(Tensor(level, shape: [level.count]), steps) }
    let tokens = configuration.tokens
    let marks = (0..<steps).map { step -> Float in
      let (start, end) = tokens.seconds(of: step)
      let (first, last) = (Int(start * Double(decoded.sampleRate)), Int(end * Double(decoded.sampleRate)))
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
