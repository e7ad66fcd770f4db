import CFFmpeg

/// Converts decoded frames of any format to 32-bit floats with one sample rate and one number of
/// channels.
final class AudioConverter {
  private let file: String
  private let channels: AudioReader.Channels
  private let rate: Int32
  /// The format of the converted samples.
  private let sampleFormat: AVSampleFormat
  /// The input format; empty before the first frame.
  private var source = AVChannelLayout()
  private var sourceRate: Int32 = 0
  private var sourceFormat: Int32 = -1
  /// The output layout: that of the first frame, or the requested one.
  private var target = AVChannelLayout()
  private var resampler: OpaquePointer?

  /// - Parameter roundsTo16Bits: Whether samples are rounded to 16 bits, with FFmpeg's own arithmetic
  ///   for audio that has no more.
  init(file: String, channels: AudioReader.Channels, rate: Int, roundsTo16Bits: Bool = false) {
    (self.file, self.channels, self.rate) = (file, channels, Int32(rate))
    sampleFormat = roundsTo16Bits ? AV_SAMPLE_FMT_S16P : AV_SAMPLE_FMT_FLTP
  }

  deinit {
    swr_free(&resampler)
    av_channel_layout_uninit(&source)
    av_channel_layout_uninit(&target)
  }

  /// Whether a frame has the format of the previous ones, except for the type of its samples.
  func accepts(_ frame: UnsafeMutablePointer<AVFrame>) -> Bool {
    frame.pointee.sample_rate == sourceRate
      && av_channel_layout_compare(&source, &frame.pointee.ch_layout) == 0
  }

  /// The number of samples buffered in the resampler, at the output rate.
  var delay: Double {
    guard let resampler, sourceRate != rate else { return 0 }
    // A finer unit is used because fractions of a sample matter.
    return Double(swr_get_delay(resampler, Int64(rate) * 1000)) / 1000
  }

  /// - Returns: [channel][sample]; and whether they begin with the rest of frames of another
  ///   format.
  package func convert(_ frame: UnsafeMutablePointer<AVFrame>) throws -> (
    samples: [[Float]], isContinuation: Bool
  ) {
    var rest: [[Float]] = []
    if !accepts(frame) || frame.pointee.format != sourceFormat {
      rest = try flush()
      try prepare(for: frame)
    }
    let count = frame.pointee.nb_samples
    let planes = max(1, Int(frame.pointee.ch_layout.nb_channels))
    let samples = try frame.pointee.extended_data.withMemoryRebound(
      to: UnsafePointer<UInt8>?.self, capacity: planes
    ) { try run($0, count) }
    guard let tail = rest.first, !tail.isEmpty else { return (mixed(samples), false) }
    return (zip(rest, mixed(samples)).map { $0 + $1 }, true)
  }

  /// The remaining samples in the resampler.
  func flush() throws -> [[Float]] {
    guard resampler != nil, sourceRate != rate else { return [] }
    return mixed(try run(nil, 0))
  }

  private func run(
    _ input: UnsafeMutablePointer<UnsafePointer<UInt8>?>?, _ count: Int32
  ) throws -> [[Float]] {
    let remedy = "Convert the audio to AAC or WAV."
    let room = sourceRate == rate ? count : swr_get_out_samples(resampler, count)
    try check(room, .decoding, file: file, "its audio can't be converted", remedy: remedy)
    if sampleFormat == AV_SAMPLE_FMT_S16P {
      let planes: [[Int16]] = try planes(input, count, room: Int(room), remedy)
      return planes.map { $0.map { Float($0) / 32768 } }
    }
    return try planes(input, count, room: Int(room), remedy)
  }

  /// Samples in the resampler's output format.
  private func planes<Sample: BitwiseCopyable>(
    _ input: UnsafeMutablePointer<UnsafePointer<UInt8>?>?, _ count: Int32, room: Int,
    _ remedy: String
  ) throws -> [[Sample]] {
    let planeCount = Int(target.nb_channels)
    let storage = UnsafeMutablePointer<Sample>.allocate(capacity: max(1, room * planeCount))
    defer { storage.deallocate() }
    var planes = (0..<planeCount).map { plane -> UnsafeMutablePointer<UInt8>? in
      UnsafeMutableRawPointer(storage + plane * room).assumingMemoryBound(to: UInt8.self)
    }
    let written = swr_convert(resampler, &planes, Int32(room), input, count)
    try check(written, .decoding, file: file, "its audio can't be converted", remedy: remedy)
    return (0..<planeCount).map { plane in
      Array(UnsafeBufferPointer(start: storage + plane * room, count: Int(written)))
    }
  }

  private func prepare(for frame: UnsafeMutablePointer<AVFrame>) throws {
    let remedy = "Convert the audio to AAC or WAV."
    let unusable = "its audio's channel layout can't be used"
    let isFirst = target.nb_channels == 0
    swr_free(&resampler)
    av_channel_layout_uninit(&source)
    try check(
      av_channel_layout_copy(&source, &frame.pointee.ch_layout), .decoding, file: file, unusable,
      remedy: remedy)
    (sourceRate, sourceFormat) = (frame.pointee.sample_rate, frame.pointee.format)
    // For mixing, a layout that only has a channel count is treated as FFmpeg's default layout for
    // that count.
    var input = AVChannelLayout()
    defer { av_channel_layout_uninit(&input) }
    try check(
      av_channel_layout_copy(&input, &source), .decoding, file: file, unusable, remedy: remedy)
    let mixes = channels != .own || !isFirst
    let isCounted = if case .count = channels { true } else { false }
    if mixes, input.order == AV_CHANNEL_ORDER_UNSPEC,
      input.nb_channels > 2 || !isFirst || isCounted
    {
      av_channel_layout_default(&input, source.nb_channels)
    }
    let isKnown = input.order == AV_CHANNEL_ORDER_NATIVE
    if isFirst {
      switch channels {
      // `mixed` handles layouts without channel positions in FFmpeg.
      case .stereo where isKnown && input.nb_channels > 2: av_channel_layout_default(&target, 2)
      case .count(let count) where isKnown: av_channel_layout_default(&target, Int32(count))
      case .own, .stereo, .count:
        try check(
          av_channel_layout_copy(&target, &input), .decoding, file: file, unusable, remedy: remedy)
      }
    } else if target.order == AV_CHANNEL_ORDER_UNSPEC, target.nb_channels != input.nb_channels {
      let count = target.nb_channels
      av_channel_layout_default(&target, count)
    }
    let status = swr_alloc_set_opts2(
      &resampler, &target, sampleFormat, rate, &input, AVSampleFormat(sourceFormat),
      sourceRate, 0, nil)
    try check(status, .decoding, file: file, unusable, remedy: remedy)
    if channels != .own || !isFirst, let resampler {
      // The weights of each side add up to 1, like in upstream's data preparation.
      try check(
        av_opt_set_double(UnsafeMutableRawPointer(resampler), "rematrix_maxval", 1, 0), .decoding,
        file: file,
        unusable, remedy: remedy)
    }
    try check(swr_init(resampler), .decoding, file: file, unusable, remedy: remedy)
  }

  /// Fills every channel with the mean of the channels if another number of channels was requested
  /// and FFmpeg didn't mix them.
  private func mixed(_ samples: [[Float]]) -> [[Float]] {
    let wanted: Int
    switch channels {
    case .own: return samples
    case .stereo: wanted = 2
    case .count(let count): wanted = count
    }
    guard samples.count != wanted else { return samples }
    var mean = samples[0]
    for channel in samples.dropFirst() { for i in mean.indices { mean[i] += channel[i] } }
    if samples.count > 1 { for i in mean.indices { mean[i] /= Float(samples.count) } }
    return Array(repeating: mean, count: wanted)
  }
}
