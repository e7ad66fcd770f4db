/// Stereo sound in memory.
public struct SoundClip: Equatable, Sendable {
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

  /// A longer silence than this in the middle of a file is taken for damage.
  private static let longestGap = 600.0

  /// Reads the first sound stream of a file, or a part of it, at its own rate.
  ///
  /// One channel is taken for both. More than two are mixed down by FFmpeg: for 5.1 (L + 0.71 C + 0.71 Ls) / 2.41,
  /// likewise on the right, so that nothing clips. Where time stamps leave gaps, and where the sound begins later than
  /// `start`, there is silence.
  ///
  /// - Parameters:
  ///   - start: seconds from the file's start.
  ///   - duration: seconds, rounded to whole samples; nil: to the end. Less where the sound ends earlier.
  /// - Throws: `MediaError` for a file without sound (`.noStream`), one that can't be decoded, or one that has no
  ///   samples there.
  public static func read(path: String, from start: Double = 0, duration: Double? = nil) throws -> SoundClip {
    guard start >= 0, start < 1e7, duration.map({ $0 > 0 && $0 < 1e7 }) ?? true else {
      throw MediaError(
        .badOption, file: path, "\(duration.map { "\($0) s" } ?? "sound") from \(start) s can't be read",
        remedy: "Give times from 0 on, and a length above 0.")
    }
    let reader = try AudioReader(path: path, channels: .stereo)
    let rate = Double(reader.sampleRate)
    let first = Int((start * rate).rounded())
    let wanted = duration.map { Int(($0 * rate).rounded()) }
    let origin = Int((reader.containerStart * rate).rounded())
    var clip = [[Float]](repeating: [], count: 2)
    while let chunk = try reader.next() {
      // Places count from `first` on.
      let place = chunk.start - origin - first
      if let wanted, place >= wanted { break }
      let filled = clip[0].count
      let skipped = filled - place
      guard skipped < chunk.sampleCount else { continue }
      if skipped < 0, Double(-skipped) > longestGap * rate {
        throw MediaError(
          .decoding, file: path, "the time stamps of its sound jump by \(Int(Double(-skipped) / rate)) s",
          remedy: "Convert the file anew.")
      }
      for channel in 0..<2 {
        if skipped < 0 { clip[channel] += [Float](repeating: 0, count: -skipped) }
        clip[channel] += chunk.channels[channel].dropFirst(max(0, skipped))
      }
      if let wanted, clip[0].count >= wanted { break }
    }
    if let wanted, clip[0].count > wanted {
      for channel in 0..<2 { clip[channel].removeLast(clip[channel].count - wanted) }
    }
    guard !clip[0].isEmpty else {
      throw MediaError(
        .decoding, file: path, "holds no sound from \(start) s on", remedy: "Give an earlier start.")
    }
    return SoundClip(left: clip[0], right: clip[1], sampleRate: reader.sampleRate)
  }
}

/// What writers do to samples: sound louder than full scale is cut, and what is no number is refused.
///
/// - Throws: `MediaError` that says where.
func clipped(_ samples: [Float], file: String) throws -> [Float] {
  var result = samples
  var isSound = true
  result.withUnsafeMutableBufferPointer { samples in
    for i in samples.indices {
      let sample = samples[i]
      isSound = isSound && !sample.isNaN
      samples[i] = min(1, max(-1, sample))
    }
  }
  guard isSound else {
    throw MediaError(
      .badOption, file: file, "its sound has samples that are no numbers",
      remedy: "Check what made the sound.")
  }
  return result
}
