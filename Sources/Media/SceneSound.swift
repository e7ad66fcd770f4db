/// Hands out a file's sound in stretches that follow the pictures, by the container's clock.
final class SceneSound {
  let format: VideoWriter.Audio
  private let reader: AudioReader
  private var chunk: AudioChunk?
  private var isAtEnd = false
  /// The next sample to write, on the container's clock.
  private var position = 0
  /// What ends where on the container's clock, and why; the first such place.
  private(set) var loss: (noun: String, seconds: Double, reason: String)?

  /// A longer gap in the time stamps of the sound is taken for damage, in seconds.
  private static let longestGap = 600

  init(_ reader: AudioReader) {
    self.reader = reader
    format = VideoWriter.Audio(sampleRate: reader.sampleRate, channelCount: reader.channelCount)
  }

  func start(at seconds: Double) { position = sample(at: seconds) }

  /// Writes the samples from where the last call ended up to a time. Gaps become silence; after the end of the sound, or
  /// a gap that can't be one, nothing is added to this scene.
  func copy(until seconds: Double, to writer: VideoWriter) throws {
    let end = sample(at: seconds)
    while position < end {
      guard let chunk = try chunkReaching(position) else { return }
      let from = max(position, chunk.start)
      let to = min(end, chunk.start + chunk.sampleCount)
      let gap = min(from, end) - position
      guard gap <= Self.longestGap * format.sampleRate else {
        note("A scene's sound", "its time stamps jump by \(gap / format.sampleRate) s")
        position = .max
        return
      }
      try writeSilence(count: gap, to: writer)
      if to > from {
        try writer.append(
          audio: chunk.channels.map { Array($0[(from - chunk.start)..<(to - chunk.start)]) })
        position = to
      }
    }
  }

  private func writeSilence(count: Int, to writer: VideoWriter) throws {
    let end = position + count
    while position < end {
      let silence = [Float](repeating: 0, count: min(end - position, format.sampleRate))
      try writer.append(audio: Array(repeating: silence, count: format.channelCount))
      position += silence.count
    }
  }

  /// The first chunk that ends behind a sample. Sound that can't be read on is not worth losing the pictures for.
  private func chunkReaching(_ sample: Int) throws -> AudioChunk? {
    while !isAtEnd {
      if let chunk, chunk.start + chunk.sampleCount > sample { return chunk }
      do { chunk = try reader.next() } catch let error as MediaError where error.kind == .decoding {
        note("The sound", error.what)
        chunk = nil
      }
      isAtEnd = chunk == nil
    }
    return nil
  }

  private func note(_ noun: String, _ reason: String) {
    loss = loss ?? (noun, Double(position) / Double(format.sampleRate), reason)
  }

  private func sample(at seconds: Double) -> Int {
    Int((seconds * Double(format.sampleRate)).rounded())
  }
}
