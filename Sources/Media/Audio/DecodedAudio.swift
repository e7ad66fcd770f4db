/// A file's decoded audio, before any mixing or resampling.
public struct DecodedAudio: Sendable {
  /// [channel][sample], in the file's channel order, nominally -1 to 1. Louder samples are kept.
  public var channels: [[Float]]
  /// The sample rate of the file.
  public let sampleRate: Int
  /// The damage found, as a clause; nil if everything read so far was decoded.
  public let damage: String?
  /// The time of the first sample in seconds on the container's clock, which the frames share.
  public let startSeconds: Double
  /// Notes for the user, a clause each.
  public let notes: [String]

  public init(
    channels: [[Float]], sampleRate: Int, startSeconds: Double = 0, damage: String? = nil,
    notes: [String] = []
  ) {
    self.channels = channels
    self.sampleRate = sampleRate
    self.startSeconds = startSeconds
    self.damage = damage
    self.notes = notes
  }

  /// Decodes audio with its own sample rate and channels, each sample at its time
  /// (`AudioTimeline`). Gaps and a late start are filled with silence, and audio before the start
  /// is dropped.
  ///
  /// - Parameters:
  ///   - start: The time of the first sample on the container's clock; nil for the beginning of the
  ///     file, which is a video's first frame.
  ///   - seconds: The length: floor(`seconds` * rate) samples are read, fewer if the audio ends;
  ///     nil reads all.
  ///   - track: The audio track to read.
  /// - Returns: The audio. Its `startSeconds` is the start of the file's first audio, which may be
  ///   after or before the first sample.
  /// - Throws: `MediaError` for a file without audio (`.noStream`), one without any samples, or
  ///   samples that are not finite.
  public static func placed(
    path: String, from start: Double?, seconds: Double?, track: AudioTrackChoice = .automatic
  ) throws -> DecodedAudio {
    guard seconds.map({ $0 >= 0 && $0 < 1e9 }) ?? true else {
      throw MediaError(
        .badOption, file: path, "\(seconds ?? 0) s of audio can't be read",
        remedy: "Give 0 s or more.")
    }
    let reader = try AudioReader(path: path, track: track)
    let placed = try PlacedAudio(
      AudioTimeline(reader), from: start.map { .clock($0) } ?? .file(plus: 0),
      count: seconds.map { Int($0 * Double(reader.sampleRate)) })
    guard let first = placed.firstSeconds ?? (seconds == 0 ? 0 : nil) else {
      throw empty(path, placed.damage)
    }
    return DecodedAudio(
      channels: placed.channels.isEmpty
        ? Array(repeating: [], count: reader.channelCount) : placed.channels,
      sampleRate: reader.sampleRate, startSeconds: first, damage: placed.damage, notes: placed.notes
    )
  }

  private static func empty(_ path: String, _ damage: String?) -> MediaError {
    let reason = damage.map { " (\($0))" } ?? ""
    return MediaError(
      .decoding, file: path, "not one sample of its audio can be decoded\(reason)",
      remedy: "Copy or convert the file again.")
  }

  /// Decodes an audio track from its start, with its own sample rate and channels, like upstream;
  /// for `--compat`.
  ///
  /// The samples are those of upstream's `torchaudio.load`: encoder priming is dropped as the
  /// container says, and the rest is concatenated in decoding order; a gap or a late start adds no
  /// silence. Samples before time 0 are dropped too, and so is a frame at 0 without a length, which
  /// is the priming of AAC in Matroska. Upstream drops the audio of a clip at the first packet that
  /// can't be decoded; here such a packet is skipped and reported in `damage`.
  ///
  /// - Parameters:
  ///   - maximumSeconds: The limit: reading stops at floor(`maximumSeconds` * rate) samples; nil
  ///     reads to the end.
  ///   - track: The audio track to read.
  /// - Throws: `MediaError` for a file without audio (`.noStream`), for one that decodes to no
  ///   samples, or for samples that are not finite.
  public static func read(
    path: String, maximumSeconds: Double?, track: AudioTrackChoice = .first
  ) throws -> DecodedAudio {
    guard maximumSeconds.map({ $0 >= 0 && $0 < 1e9 }) ?? true else {
      throw MediaError(
        .badOption, file: path, "\(maximumSeconds ?? 0) s of audio can't be read",
        remedy: "Give 0 s or more."
      )
    }
    let reader = try AudioReader(path: path, track: track, failsOnChange: true)
    let limit = maximumSeconds.map { Int($0 * Double(reader.sampleRate)) } ?? .max
    var channels = [[Float]](repeating: [], count: reader.channelCount)
    var isAtEnd = false
    var start: Int?
    while channels[0].count < limit {
      guard let chunk = try reader.next() else {
        isAtEnd = true
        break
      }
      let isFirst = channels[0].isEmpty
      if isFirst, reader.isBeforeStart { continue }
      let early = isFirst ? min(chunk.sampleCount, max(0, -chunk.start)) : 0
      start = start ?? chunk.start + early
      let count = min(chunk.sampleCount - early, limit - channels[0].count)
      for (index, samples) in chunk.channels.enumerated() {
        channels[index] += samples[early..<(early + count)]
      }
    }
    let damage = isAtEnd ? reader.ending.damage : reader.damageSoFar
    if isAtEnd, channels[0].isEmpty { throw empty(path, damage) }
    guard channels.allSatisfy(areNumbers) else {
      throw MediaError(
        .decoding, file: path, "its audio has samples that are not finite",
        remedy: "Convert the audio again.")
    }
    return DecodedAudio(
      channels: channels, sampleRate: reader.sampleRate,
      startSeconds: Double(start ?? 0) / Double(reader.sampleRate), damage: damage)
  }

  /// The left and right channels, mixed like in upstream's dataset script (`process_videos.py`,
  /// `encode_audio`), in float32. Mono is copied to both channels. For 5.1 and 7.1, in the order L,
  /// R, C, LFE, Ls, Rs, Lb, Rb, the LFE is dropped and the weights of each side's other channels
  /// add up to 1. For any other number of channels, both sides get the mean.
  public func stereo() -> AudioClip {
    let (left, right): ([Float], [Float])
    switch channels.count {
    case 0: (left, right) = ([], [])
    case 1: (left, right) = (channels[0], channels[0])
    case 2: (left, right) = (channels[0], channels[1])
    case 6:
      let (main, other) = (Float(1 / 2.414), Float(0.707 / 2.414))
      let mix = { (front: Int, side: Int) in
        self.mixed { main * $0[front][$1] + other * $0[2][$1] + other * $0[side][$1] }
      }
      (left, right) = (mix(0, 4), mix(1, 5))
    case 8:
      let (main, other) = (Float(1 / 3.121), Float(0.707 / 3.121))
      let mix = { (front: Int, side: Int, back: Int) in
        self.mixed { main * $0[front][$1] + other * ($0[2][$1] + $0[side][$1] + $0[back][$1]) }
      }
      (left, right) = (mix(0, 4, 6), mix(1, 5, 7))
    default:
      let count = Float(channels.count)
      let mean = mixed { channels, i in channels.reduce(0) { $0 + $1[i] } / count }
      (left, right) = (mean, mean)
    }
    return AudioClip(left: left, right: right, sampleRate: sampleRate)
  }

  private func mixed(_ sample: ([[Float]], Int) -> Float) -> [Float] {
    channels[0].indices.map { sample(channels, $0) }
  }
}

private func areNumbers(_ samples: [Float]) -> Bool {
  samples.withUnsafeBufferPointer { samples in
    // NaN and infinity times zero are NaN, so samples with weight 0 are not added.
    var sum: Float = 0
    var i = 0
    while i < samples.count {
      sum += samples[i] * 0
      i &+= 1
    }
    return sum == 0
  }
}
