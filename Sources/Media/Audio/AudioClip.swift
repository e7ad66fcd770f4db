/// Stereo audio in memory.
public struct AudioClip: Equatable, Sendable {
  /// The left and right channel, of equal length, nominally -1 to 1. Louder samples are kept.
  public let channels: [[Float]]
  /// The sample rate of the file.
  public let sampleRate: Int

  public var sampleCount: Int { channels[0].count }

  /// The length in seconds.
  public var duration: Double { Double(sampleCount) / Double(sampleRate) }

  public init(left: [Float], right: [Float], sampleRate: Int) {
    precondition(left.count == right.count, "channels of different lengths")
    channels = [left, right]
    self.sampleRate = sampleRate
  }

  /// Reads all or part of a file's audio at its own sample rate, each sample at its time
  /// (`AudioTimeline`).
  ///
  /// Mono is copied to both channels. FFmpeg mixes more than two channels down: for 5.1, left is (L
  /// + 0.71 C + 0.71 Ls) / 2.41 and right is the same for the right channels, so that nothing
  /// clips. Gaps in the time stamps, and the time before audio that starts later than `start`, are
  /// silence.
  ///
  /// - Parameters:
  ///   - start: The start in seconds from the start of the file, which is a video's first frame.
  ///   - duration: The length in seconds, rounded to whole samples; nil reads to the end. The clip
  ///     is shorter if the audio ends earlier.
  /// - Throws: `MediaError` for a file without audio (`.noStream`), for one that can't be decoded,
  ///   or for one without samples in the range.
  public static func read(
    path: String, from start: Double = 0, duration: Double? = nil
  ) throws -> AudioClip {
    try read(path: path, from: start, duration: duration, track: .automatic)
  }

  /// Reads a chosen audio track, which need not be the one that players choose; otherwise the same
  /// as above.
  public static func read(
    path: String, from start: Double = 0, duration: Double? = nil, track: AudioTrackChoice
  ) throws -> AudioClip {
    guard start >= 0, start < 1e7, duration.map({ $0 > 0 && $0 < 1e7 }) ?? true else {
      throw MediaError(
        .badOption, file: path,
        "\(duration.map { "\($0) s" } ?? "audio") from \(start) s can't be read",
        remedy: "Give times from 0 on, and a length above 0.")
    }
    let reader = try AudioReader(path: path, track: track, channels: .stereo)
    let placed = try PlacedAudio(
      AudioTimeline(reader), from: .file(plus: start),
      count: duration.map { Int(($0 * Double(reader.sampleRate)).rounded()) })
    guard placed.channels.count == 2, !placed.channels[0].isEmpty else {
      throw MediaError(
        .decoding, file: path, "holds no audio from \(start) s on", remedy: "Give an earlier start."
      )
    }
    return AudioClip(
      left: placed.channels[0], right: placed.channels[1], sampleRate: reader.sampleRate)
  }
}

/// Clips samples to full scale, as writers require, and rejects samples that are not finite.
///
/// - Throws: `MediaError` with the position of the first sample that is not finite.
func clipped(_ samples: [Float], file: String) throws -> [Float] {
  var result = samples
  var isAudio = true
  result.withUnsafeMutableBufferPointer { samples in
    for i in samples.indices {
      let sample = samples[i]
      isAudio = isAudio && !sample.isNaN
      samples[i] = min(1, max(-1, sample))
    }
  }
  guard isAudio else {
    throw MediaError(
      .badOption, file: file, "its audio has samples that are not finite",
      remedy: "Check the program that made the audio.")
  }
  return result
}
