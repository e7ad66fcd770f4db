import Media

/// Splits a file's audio into segments that follow the video's frames on the container's clock.
final class SceneAudio {
  let format: VideoWriter.Audio
  private let timeline: AudioTimeline
  private var chunk: AudioTimeline.Chunk?
  private var isAtEnd = false
  /// The position of the next sample to write, on the container's clock.
  private var position = 0
  /// The first time on the container's clock at which the audio stops early, and the reason.
  private(set) var loss: (noun: String, seconds: Double, reason: String)?

  /// The number of samples that were not finite, and the time of the first one in seconds on the
  /// container's clock.
  private var broken: (count: Int, seconds: Double)?

  /// - Parameter channelCount: The number of the reader's channels.
  init(_ reader: AudioReader, channelCount: Int) {
    timeline = AudioTimeline(reader)
    format = VideoWriter.Audio(sampleRate: reader.sampleRate, channelCount: channelCount)
  }

  /// Notes for the user so far, a sentence each.
  ///
  /// - Parameter origin: The zero of reported times, in seconds on the container's clock.
  func notes(from origin: Double) -> [String] {
    var clauses = [timeline.reader.trackNote, timeline.reader.change].compactMap { $0 }
    clauses += timeline.notes(from: sample(at: origin))
    if let broken {
      clauses.append(
        String(
          format:
            "its audio has %d samples that are not finite numbers, from %.2f s on; they became silence",
          broken.count, broken.seconds - origin))
    }
    return clauses.map { $0.prefix(1).uppercased() + $0.dropFirst() + "." }
  }

  func start(at seconds: Double) { position = sample(at: seconds) }

  /// Writes the samples from the end of the previous call up to a time. Gaps become silence; after
  /// the end of the audio, or after a gap that is too long, nothing is added to this scene.
  func copy(until seconds: Double, to writer: VideoWriter) throws {
    let end = sample(at: seconds)
    while position < end {
      guard let chunk = try chunkReaching(position) else { return }
      let from = max(position, chunk.start)
      let to = min(end, chunk.end)
      try writeSilence(count: min(from, end) - position, to: writer)
      if to > from {
        try writer.append(
          audio: chunk.channels.map {
            finite($0[(from - chunk.start)..<(to - chunk.start)], at: from)
          })
        position = to
      }
    }
  }

  /// Replaces samples that are not finite, because encoders fail on them.
  private func finite(_ samples: ArraySlice<Float>, at position: Int) -> [Float] {
    var result = Array(samples)
    for i in result.indices where !result[i].isFinite {
      let place = Double(position + i) / Double(format.sampleRate)
      broken = ((broken?.count ?? 0) + 1, broken?.seconds ?? place)
      result[i] = 0
    }
    return result
  }

  private func writeSilence(count: Int, to writer: VideoWriter) throws {
    let end = position + count
    while position < end {
      let silence = [Float](repeating: 0, count: min(end - position, format.sampleRate))
      try writer.append(audio: Array(repeating: silence, count: format.channelCount))
      position += silence.count
    }
  }

  /// The first chunk that ends after a sample. If the audio stops early, the video is still
  /// written.
  private func chunkReaching(_ sample: Int) throws -> AudioTimeline.Chunk? {
    while !isAtEnd {
      if let chunk, chunk.end > sample { return chunk }
      do { chunk = try timeline.next() } catch let error as MediaError where error.kind == .decoding
      {
        note("The audio", error.what)
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
