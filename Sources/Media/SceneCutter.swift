import CFFmpeg

/// Decodes a video from its start and writes given scenes of it, frame by frame with their sound.
final class SceneCutter {
  private let folder: String
  private let stem: String
  private let quality: VideoWriter.Quality
  private let video: VideoReader
  private var sound: SceneSound?
  /// Sentences for the user.
  private(set) var notes: [String] = []

  init(input: String, folder: String, stem: String, quality: VideoWriter.Quality) throws {
    self.folder = folder
    self.stem = stem
    self.quality = quality
    video = try VideoReader(path: input)
    if video.width < 2 || video.height < 2 {
      throw MediaError(
        .badOption, file: input, "frames of \(video.width)x\(video.height) cannot be coded",
        remedy: "Give a larger video.")
    }
    if video.width % 2 == 1 || video.height % 2 == 1 {
      notes.append("The last odd row or column of pixels is left out: H.264 needs an even size.")
    }
    if video.hasAudio { openSound(input) }
  }

  /// Sound that cannot be used is not worth losing the pictures for, but is told.
  private func openSound(_ input: String) {
    do {
      let reader = try AudioReader(path: input)
      if SoundTrack.supports(sampleRate: reader.sampleRate, channelCount: reader.channelCount) {
        sound = SceneSound(reader)
      } else {
        let layout = "\(reader.channelCount) channels at \(reader.sampleRate) Hz"
        notes.append("The scenes have no sound: AAC cannot hold \(layout).")
      }
    } catch {
      notes.append("The scenes have no sound: \(error)")
    }
  }

  /// - Parameter scenes: ascending, without overlap.
  func write(_ scenes: [Scene], progress: (Int) throws -> Void) throws -> [WrittenScene] {
    var written: [WrittenScene] = []
    var waiting = scenes[...]
    var current: OpenScene?
    var index = 0
    var origin = 0.0
    var lastSeconds = 0.0
    while current != nil || !waiting.isEmpty {
      guard let (frame, seconds) = try video.nextDecoded() else { break }
      if index == 0 { origin = seconds }
      if let scene = current, index == scene.scene.end {
        written.append(try close(scene, at: seconds, origin: origin))
        current = nil
      }
      if let scene = waiting.first, scene.start == index {
        let number = scenes.count - waiting.count + 1
        current = try open(scene, number: number, of: scenes.count, frame: frame, seconds: seconds)
        waiting.removeFirst()
      }
      if let scene = current {
        try scene.writer.append(
          decoded: frame, quarterTurns: video.remainingTurns,
          seconds: seconds - scene.startSeconds)
        // Sound follows the pictures up to this frame, so that the muxer need not hoard either.
        try sound?.copy(until: seconds, to: scene.writer)
      }
      lastSeconds = seconds
      index += 1
      try progress(index)
    }
    if let scene = current, index == scene.scene.end {
      let end = lastSeconds + 1 / video.frameRate.value
      written.append(try close(scene, at: end, origin: origin))
      current = nil
    }
    guard current == nil, waiting.isEmpty else {
      throw MediaError(
        .decoding, file: video.path, "gave only \(index) frames when read again", remedy: "Try again.")
    }
    return written
  }

  private struct OpenScene {
    let scene: Scene
    let number: Int
    let file: String
    let writer: VideoWriter
    let startSeconds: Double
  }

  private func open(
    _ scene: Scene, number: Int, of count: Int, frame: UnsafeMutablePointer<AVFrame>, seconds: Double
  ) throws -> OpenScene {
    let digits = max(3, String(count).count)
    let text = String(number)
    let file = "\(stem)-Scene-\(String(repeating: "0", count: digits - text.count))\(text).mp4"
    // Frames keep their times: on the grid of a constant rate, where frames may be missing, else finely.
    let writer = try VideoWriter(
      path: folder + "/" + file, width: video.width & ~1, height: video.height & ~1,
      frameRate: video.frameRate, timeBase: video.hasConstantRate ? nil : Rational(1, 90_000),
      audio: sound?.format, quality: quality,
      tags: VideoWriter.Tags(of: frame, quarterTurns: video.remainingTurns))
    sound?.start(at: seconds)
    return OpenScene(scene: scene, number: number, file: file, writer: writer, startSeconds: seconds)
  }

  private func close(_ scene: OpenScene, at seconds: Double, origin: Double) throws -> WrittenScene {
    try sound?.copy(until: seconds, to: scene.writer)
    try scene.writer.finish()
    return WrittenScene(
      number: scene.number, scene: scene.scene, startSeconds: scene.startSeconds - origin,
      endSeconds: seconds - origin, file: scene.file)
  }
}

/// Hands out a file's sound in stretches that follow the pictures, by the container's clock.
private final class SceneSound {
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
