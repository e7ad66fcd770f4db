import CFFmpeg

/// A stretch of sound.
public struct AudioChunk: Sendable {
  /// [channel][sample], -1 to 1.
  public let channels: [[Float]]
  public let sampleRate: Int
  /// Place of the first sample on the container's clock, in samples; the video's clock is the same.
  public let start: Int

  public var sampleCount: Int { channels.first?.count ?? 0 }
}

/// Decodes the first sound stream of a file to 32-bit floats, in its own rate and channels, or mixed to stereo. Encoder
/// priming is left out as the container says.
public final class AudioReader {
  public enum Channels: Sendable {
    /// Those of the file.
    case own
    /// Left and right: one channel is taken for both, more are mixed so that nothing clips.
    case stereo
  }

  public let path: String
  public let sampleRate: Int
  /// Channels of the file.
  public let channelCount: Int
  /// What each channel counts in loudness.
  let loudnessWeights: [Double]
  /// Where the container's clock starts, in seconds: 0, but for recordings of a broadcast.
  public let containerStart: Double
  /// Length in seconds where the container says.
  public let duration: Double?

  private let decoder: StreamDecoder
  private let channels: Channels
  /// Channels that FFmpeg converts to.
  private var convertedCount: Int
  private var resampler: OpaquePointer?
  private var sourceFormat: Int32
  private var decodedFrames = 0
  /// Whether the chunk that was given out last lies before time 0 as far as the file says how long it is.
  private(set) var isBeforeStart = false
  /// Where the next chunk starts if the sound goes on without a gap.
  private var expected: Int?

  /// - Throws: `MediaError` if the file is missing, is no media, or holds no sound that can be decoded.
  public init(path: String, channels: Channels = .own) throws {
    let decoder = try StreamDecoder(file: path, kind: AVMEDIA_TYPE_AUDIO)
    self.path = path
    self.decoder = decoder
    self.channels = channels
    let start = decoder.format.pointee.start_time
    containerStart = start == cffmpeg_no_timestamp || start < 0 ? 0 : Double(start) / Double(AV_TIME_BASE)
    sampleRate = Int(decoder.codec.pointee.sample_rate)
    channelCount = Int(decoder.codec.pointee.ch_layout.nb_channels)
    loudnessWeights = LoudnessMeter.weights(of: decoder.codec.pointee.ch_layout)
    convertedCount = channelCount
    sourceFormat = decoder.codec.pointee.sample_fmt.rawValue
    duration = decoder.duration
    guard sampleRate > 0, channelCount > 0 else {
      throw MediaError(
        .decoding, file: path, "its sound has no sample rate or no channels",
        remedy: "Copy or convert the file anew.")
    }
  }

  deinit { swr_free(&resampler) }

  /// The next chunk, or nil at the end; then `ending` tells whether the stream was whole.
  ///
  /// - Throws: `MediaError` if rate or channels change on the way, or if reading fails.
  public func next() throws -> AudioChunk? {
    while let frame = try decoder.next() {
      decodedFrames += 1
      let count = Int(frame.pointee.nb_samples)
      if count == 0 { continue }
      guard Int(frame.pointee.sample_rate) == sampleRate,
        Int(frame.pointee.ch_layout.nb_channels) == channelCount
      else {
        throw MediaError(
          .decoding, file: path, "sample rate or channels of the sound change on the way",
          remedy: "Convert the sound to one rate and layout.")
      }
      let sound = try mixed(floats(of: frame, count: count))
      let start = place(of: frame)
      expected = start + count
      let stamp = frame.pointee.best_effort_timestamp
      isBeforeStart = stamp != cffmpeg_no_timestamp && stamp <= -max(0, cffmpeg_frame_duration(frame))
      return AudioChunk(channels: sound, sampleRate: sampleRate, start: start)
    }
    return nil
  }

  /// Whether everything that the container announces has been decoded; known once `next()` gave nil.
  public var ending: Ending { decoder.ending(decoded: decodedFrames) }

  /// What could not be decoded up to here, as a clause; nil if all was whole.
  var damageSoFar: String? {
    decoder.damagedPackets == 0 ? nil : "\(decoder.damagedPackets) packets of its sound are damaged"
  }

  /// Time stamps may be coarser than samples, so only a jump of more than a tenth of a second is a gap.
  private func place(of frame: UnsafeMutablePointer<AVFrame>) -> Int {
    guard let seconds = decoder.seconds(of: frame), abs(seconds) < 1e9 else { return expected ?? 0 }
    let stamped = Int((seconds * Double(sampleRate)).rounded())
    if let expected, abs(stamped - expected) < sampleRate / 10 { return expected }
    return stamped
  }

  private func floats(of frame: UnsafeMutablePointer<AVFrame>, count: Int) throws -> [[Float]] {
    if resampler == nil || sourceFormat != frame.pointee.format {
      sourceFormat = frame.pointee.format
      try prepare(for: frame)
    }
    var planes: [UnsafeMutablePointer<UInt8>?] = []
    let storage = UnsafeMutablePointer<Float>.allocate(capacity: count * convertedCount)
    defer { storage.deallocate() }
    for channel in 0..<convertedCount {
      planes.append(
        UnsafeMutableRawPointer(storage + channel * count).assumingMemoryBound(to: UInt8.self))
    }
    let written = frame.pointee.extended_data.withMemoryRebound(
      to: UnsafePointer<UInt8>?.self, capacity: channelCount
    ) { swr_convert(resampler, &planes, Int32(count), $0, Int32(count)) }
    try check(
      written, .decoding, file: path, "its sound cannot be converted", remedy: "Convert it to AAC or WAV.")
    return (0..<convertedCount).map { channel in
      Array(UnsafeBufferPointer(start: storage + channel * count, count: Int(written)))
    }
  }

  private func prepare(for frame: UnsafeMutablePointer<AVFrame>) throws {
    swr_free(&resampler)
    var source = AVChannelLayout()
    var target = AVChannelLayout()
    defer {
      av_channel_layout_uninit(&source)
      av_channel_layout_uninit(&target)
    }
    let remedy = "Convert the sound to AAC or WAV."
    let unusable = "its sound's layout is unusable"
    try check(
      av_channel_layout_copy(&source, &frame.pointee.ch_layout), .decoding, file: path, unusable,
      remedy: remedy)
    if channels == .stereo, channelCount > 2, source.order == AV_CHANNEL_ORDER_UNSPEC {
      av_channel_layout_default(&source, Int32(channelCount))
    }
    // What FFmpeg knows no places for is mixed by `mixed`.
    let isMixing = channels == .stereo && channelCount > 2 && source.order == AV_CHANNEL_ORDER_NATIVE
    convertedCount = isMixing ? 2 : channelCount
    if isMixing {
      av_channel_layout_default(&target, 2)
    } else {
      try check(
        av_channel_layout_copy(&target, &source), .decoding, file: path, unusable, remedy: remedy)
    }
    let status = swr_alloc_set_opts2(
      &resampler, &target, AV_SAMPLE_FMT_FLTP, frame.pointee.sample_rate,
      &source, AVSampleFormat(frame.pointee.format), frame.pointee.sample_rate, 0, nil)
    try check(status, .decoding, file: path, unusable, remedy: remedy)
    if isMixing, let resampler {
      // The weights of each side add up to 1, as in the reference's data preparation.
      try check(
        av_opt_set_double(UnsafeMutableRawPointer(resampler), "rematrix_maxval", 1, 0), .decoding, file: path,
        unusable, remedy: remedy)
    }
    try check(swr_init(resampler), .decoding, file: path, unusable, remedy: remedy)
  }

  /// Stereo where it is wanted and FFmpeg has not made it: the mean of the channels on both sides.
  private func mixed(_ sound: [[Float]]) -> [[Float]] {
    guard channels == .stereo, sound.count != 2 else { return sound }
    var mean = sound[0]
    for channel in sound.dropFirst() { for i in mean.indices { mean[i] += channel[i] } }
    if sound.count > 1 { for i in mean.indices { mean[i] /= Float(sound.count) } }
    return [mean, mean]
  }
}
