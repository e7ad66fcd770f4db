import CFFmpeg

/// A chunk of decoded audio.
public struct AudioChunk: Sendable {
  /// [channel][sample], -1 to 1.
  public let channels: [[Float]]
  public let sampleRate: Int
  /// The position of the first sample on the container's clock, in samples; the video has the same
  /// clock. If the file has no time stamp, the end of the previous chunk.
  public let start: Int
  /// The same position from the time stamp, unrounded; nil without a time stamp.
  let stamp: Double?

  public var sampleCount: Int { channels.first?.count ?? 0 }
}

/// Decodes an audio track to 32-bit floats, with its own sample rate and channels or requested
/// ones. Encoder priming is dropped if the container gives its length. If sample rate or channels
/// change within the track, the rest is converted to those at its beginning.
///
/// Chunks are returned as they are decoded; `AudioTimeline` places them by their time stamps.
public final class AudioReader {
  public enum Channels: Equatable, Sendable {
    /// The channels of the file.
    case own
    /// Left and right. Mono is copied to both; more channels are mixed so that nothing clips.
    case stereo
    /// FFmpeg's default layout for this number of channels, to which other layouts are mixed.
    case count(Int)
  }

  public let path: String
  /// The sample rate of the chunks.
  public let sampleRate: Int
  /// The sample rate of the file.
  public let sourceRate: Int
  /// The number of channels in the file.
  public let channelCount: Int
  /// The weight of each channel in the loudness.
  let loudnessWeights: [Double]
  /// The start of the container's clock in seconds; 0 except for broadcast recordings.
  public let containerStart: Double
  /// The length in seconds, if the container gives it.
  public let duration: Double?
  /// A note about the choice of the track, as a clause; nil for a file with one track.
  public let trackNote: String?
  /// The resolution of the time stamps, in seconds.
  let tick: Double

  private let decoder: StreamDecoder
  private var converter: AudioConverter
  private var decodedFrames = 0
  /// The first frame, which describes the audio more reliably than the header.
  private var first: UnsafeMutablePointer<AVFrame>?
  private var isAtEnd = false
  /// A change of format within the track, as a clause; nil without a change.
  package private(set) var change: String?
  private let failsOnChange: Bool
  /// Whether the last returned chunk lies before time 0, as far as the file gives its length.
  private(set) var isBeforeStart = false
  /// The start of the next chunk if the audio continues without a gap.
  private var expected: Int?

  /// - Parameters:
  ///   - track: The track to read.
  ///   - sampleRate: The sample rate of the chunks; nil for the file's own.
  ///   - failsOnChange: Whether a change of sample rate or channels within the track is an error.
  ///   - roundsTo16Bits: Whether samples are rounded to 16 bits, as in a file that FFmpeg writes.
  /// - Throws: `MediaError` if the file is missing, is not a media file, has no audio that can be
  ///   decoded, or does not have the track.
  public init(
    path: String, track: AudioTrackChoice = .automatic, channels: Channels = .own,
    sampleRate: Int? = nil,
    failsOnChange: Bool = false, roundsTo16Bits: Bool = false
  ) throws {
    let decoder = try StreamDecoder(file: path, kind: AVMEDIA_TYPE_AUDIO, audioTrack: track)
    self.path = path
    self.decoder = decoder
    self.failsOnChange = failsOnChange
    trackNote = decoder.trackNote
    let start = decoder.format.pointee.start_time
    containerStart =
      start == cffmpeg_no_timestamp || start < 0 ? 0 : Double(start) / Double(AV_TIME_BASE)
    tick = av_q2d(decoder.stream.pointee.time_base)
    duration = decoder.duration
    var frame = try decoder.next()
    while let empty = frame, empty.pointee.nb_samples == 0 { frame = try decoder.next() }
    first = frame
    let (rate, count) =
      first.map { (Int($0.pointee.sample_rate), Int($0.pointee.ch_layout.nb_channels)) }
      ?? (Int(decoder.codec.pointee.sample_rate), Int(decoder.codec.pointee.ch_layout.nb_channels))
    guard rate > 0, count > 0 else {
      throw MediaError(
        .decoding, file: path, "its audio has no sample rate or no channels",
        remedy: "Copy or convert the file again.")
    }
    sourceRate = rate
    self.sampleRate = sampleRate ?? rate
    channelCount = count
    loudnessWeights = LoudnessMeter.weights(
      of: first?.pointee.ch_layout ?? decoder.codec.pointee.ch_layout)
    converter = AudioConverter(
      file: path, channels: channels, rate: self.sampleRate, roundsTo16Bits: roundsTo16Bits)
  }

  /// The next chunk; nil at the end, when `ending` says whether the stream was complete.
  ///
  /// - Throws: `MediaError` if the sample rate or channels change in a way that can't be converted,
  ///   or if reading fails.
  public func next() throws -> AudioChunk? {
    while !isAtEnd {
      guard let frame = try first ?? decoder.next() else {
        isAtEnd = true
        let rest = try converter.flush()
        return rest.isEmpty || rest[0].isEmpty ? nil : chunk(rest, stamp: nil)
      }
      first = nil
      decodedFrames += 1
      if frame.pointee.nb_samples == 0 { continue }
      let seconds = decoder.seconds(of: frame).flatMap { abs($0) < 1e9 ? $0 : nil }
      if decodedFrames > 1, !converter.accepts(frame) { try noteChange(frame, seconds) }
      let delay = converter.delay
      let (samples, isContinuation) = try converter.convert(frame)
      let stamp = frame.pointee.best_effort_timestamp
      isBeforeStart =
        stamp != cffmpeg_no_timestamp && stamp <= -max(0, cffmpeg_frame_duration(frame))
      if samples[0].isEmpty { continue }
      return chunk(
        samples, stamp: isContinuation ? nil : seconds.map { $0 * Double(sampleRate) - delay })
    }
    return nil
  }

  /// Whether everything that the container announces has been decoded; known after `next()`
  /// returned nil.
  public var ending: Ending { decoder.ending(decoded: decodedFrames) }

  /// The number of audio tracks of a file.
  ///
  /// - Throws: `MediaError` for a file that is missing, is not a media file, or has no audio
  ///   (`.noStream`).
  public static func trackCount(path: String) throws -> Int {
    AudioTrack.all(in: try PacketReader(file: path, kind: AVMEDIA_TYPE_AUDIO).format).count
  }

  /// The damage found so far, as a clause; nil if everything was decoded.
  var damageSoFar: String? {
    decoder.damagedPackets == 0 ? nil : "\(decoder.damagedPackets) packets of its audio are damaged"
  }

  /// Whether the container's clock wraps around at 33 bits, so that negative times don't mean
  /// priming.
  var wrapsAround: Bool {
    let name = decoder.format.pointee.iformat?.pointee.name.map { String(cString: $0) } ?? ""
    return name == "mpegts" || name == "mpeg"
  }

  /// The start of the container's clock in seconds, possibly below 0; nil if the container doesn't
  /// give it.
  var rawContainerStart: Double? {
    let start = decoder.format.pointee.start_time
    return start == cffmpeg_no_timestamp ? nil : Double(start) / Double(AV_TIME_BASE)
  }

  /// Whether the file has a video track, not counting cover images.
  var hasVideo: Bool {
    (0..<Int(decoder.format.pointee.nb_streams)).contains { index in
      guard let stream = decoder.format.pointee.streams[index] else { return false }
      return stream.pointee.codecpar.pointee.codec_type == AVMEDIA_TYPE_VIDEO
        && stream.pointee.disposition & Int32(AV_DISPOSITION_ATTACHED_PIC) == 0
    }
  }

  private func chunk(_ samples: [[Float]], stamp: Double?) -> AudioChunk {
    let start = stamp.map { Int($0.rounded()) } ?? expected ?? 0
    expected = start + samples[0].count
    return AudioChunk(channels: samples, sampleRate: sampleRate, start: start, stamp: stamp)
  }

  package static func format(_ rate: Int, _ count: Int) -> String {
    "\(rate) Hz with \(count) \(count == 1 ? "channel" : "channels")"
  }

  private func noteChange(_ frame: UnsafeMutablePointer<AVFrame>, _ seconds: Double?) throws {
    let (rate, count) = (Int(frame.pointee.sample_rate), Int(frame.pointee.ch_layout.nb_channels))
    let what = rate == sourceRate && count == channelCount ? "channel layout" : "format"
    let place = seconds.map { " at " + String(format: "%.2f", $0) + " s" } ?? ""
    let formats =
      what == "format"
      ? " (\(Self.format(sourceRate, channelCount)) to \(Self.format(rate, count)))" : ""
    let clause = "its audio changes its \(what)\(place)\(formats)"
    if failsOnChange {
      throw MediaError(
        .decoding, file: path, clause,
        remedy: "Convert the audio to one rate and one channel layout.")
    }
    change = change ?? clause + ", and was converted to that of its beginning"
  }
}
