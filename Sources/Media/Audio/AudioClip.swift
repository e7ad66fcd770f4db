/// Stereo sound in memory.
public struct AudioClip: Equatable, Sendable {
  /// Left and right, of one length; -1 to 1, but louder sound is not cut.
  public let channels: [[Float]]
  /// Samples per second, as the file has them.
  public let sampleRate: Int

  public var sampleCount: Int { channels[0].count }

  /// Seconds.
  public var duration: Double { Double(sampleCount) / Double(sampleRate) }

  public init(left: [Float], right: [Float], sampleRate: Int) {
    precondition(left.count == right.count, "channels of different lengths")
    channels = [left, right]
    self.sampleRate = sampleRate
  }

  /// Reads the audio of a file, or a part of it, at its own rate, each sample at its time
  /// (`AudioTimeline`).
  ///
  /// One channel is taken for both. More than two are mixed down by FFmpeg: for 5.1 (L + 0.71 C +
  /// 0.71 Ls) / 2.41, and the same on the right, so that nothing clips. Where time stamps leave
  /// gaps, and where the audio begins later than `start`, there is silence.
  ///
  /// - Parameters:
  ///   - start: seconds from the file's start, which is the first image of a video.
  ///   - duration: seconds, rounded to whole samples; nil: to the end. Less where the audio ends
  ///     earlier.
  /// - Throws: `MediaError` for a file without audio (`.noStream`), one that can't be decoded, or
  ///   one that has no samples there.
  public static func read(
    path: String, from start: Double = 0, duration: Double? = nil
  ) throws -> AudioClip {
    try read(path: path, from: start, duration: duration, track: .automatic)
  }

  /// Reads an audio track that is not, or not necessarily, the one that players choose; otherwise
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

/// What writers do to samples: sound louder than full scale is cut, and what is no number is
/// refused.
///
/// - Throws: `MediaError` that says where.
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
      .badOption, file: file, "its sound has samples that are no numbers",
      remedy: "Check what made the sound.")
  }
  return result
}
