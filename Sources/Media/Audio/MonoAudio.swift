/// Audio as speech and audio models hear it: one channel, at a low sample rate, rounded to 16 bits.
public enum MonoAudio {
  /// Decodes an audio track to one channel, with the samples of `ffmpeg -ac 1 -ar <rate>` in 16
  /// bits: channels are mixed so that nothing clips, and all that is decoded is joined, whatever
  /// its time stamps. 16-bit mono audio that has the sample rate is unchanged.
  ///
  /// - Returns: The samples, from -1 to below 1.
  /// - Throws: `MediaError` for a file without audio (`.noStream`), or one that decodes to no samples.
  public static func read(
    path: String, sampleRate: Int, track: AudioTrackChoice = .automatic
  ) throws -> [Float] {
    let reader = try AudioReader(
      path: path, track: track, channels: .count(1), sampleRate: sampleRate, roundsTo16Bits: true)
    var samples: [Float] = []
    while let chunk = try reader.next() { samples += chunk.channels[0] }
    guard !samples.isEmpty else {
      throw MediaError(
        .decoding, file: path, "not one sample of its audio can be decoded",
        remedy: "Copy or convert the file again.")
    }
    return samples
  }
}
