/// Hands out a file's sound in stretches that follow the pictures, by the container's clock.
final class SceneSound {
  let format: VideoWriter.Audio
  private let reader: AudioReader
  private var chunk: AudioChunk?
  private var isAtEnd = false
  /// The next sample to write, on the container's clock.
  private var position = 0

  init(_ reader: AudioReader) {
    self.reader = reader
    format = VideoWriter.Audio(sampleRate: reader.sampleRate, channelCount: reader.channelCount)
  }

  func start(at seconds: Double) { position = sample(at: seconds) }

  /// Writes the samples from where the last call ended up to a time. Gaps become silence; after the end of the sound
  /// nothing is added.
  func copy(until seconds: Double, to writer: VideoWriter) throws {
    let end = sample(at: seconds)
    while position < end {
      guard let chunk = try chunkReaching(position) else { return }
      let from = max(position, chunk.start)
      let to = min(end, chunk.start + chunk.sampleCount)
      if from > position {
        let silence = [Float](repeating: 0, count: min(from, end) - position)
        try writer.append(audio: chunk.channels.map { _ in silence })
        position += silence.count
      }
      if to > from {
        try writer.append(
          audio: chunk.channels.map { Array($0[(from - chunk.start)..<(to - chunk.start)]) })
        position = to
      }
    }
  }

  /// The first chunk that ends behind a sample.
  private func chunkReaching(_ sample: Int) throws -> AudioChunk? {
    while !isAtEnd {
      if let chunk, chunk.start + chunk.sampleCount > sample { return chunk }
      chunk = try reader.next()
      isAtEnd = chunk == nil
    }
    return nil
  }

  private func sample(at seconds: Double) -> Int {
    Int((seconds * Double(format.sampleRate)).rounded())
  }
}
