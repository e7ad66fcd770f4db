/// Audio with one channel, for models that listen.
public enum MonoAudio {
  /// Reads a file's audio, each sample at its time (`AudioTimeline`): gaps and a late start are
  /// silence, and audio before the start of the file is dropped. FFmpeg mixes the channels and
  /// changes the sample rate.
  ///
  /// - Returns: The samples, nominally -1 to 1; empty for audio that ends before the file starts.
  /// - Throws: `MediaError` for a file without audio (`.noStream`), or audio that can't be decoded.
  public static func read(path: String, sampleRate: Int) throws -> [Float] {
    let reader = try AudioReader(path: path, channels: .count(1), sampleRate: sampleRate)
    let placed = try PlacedAudio(AudioTimeline(reader), from: .file(plus: 0), count: nil)
    return placed.channels.first ?? []
  }
}
