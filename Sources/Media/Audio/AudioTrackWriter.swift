import CFFmpeg

/// Writes AAC to a file. Accepts audio of any length and splits it into the encoder's frames of
/// 1024 samples.
package final class AudioTrackWriter {
  private static let rates = [
    96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350,
  ]

  private let encoder: Encoder
  private let file: String
  private let channelCount: Int
  private let frame: UnsafeMutablePointer<AVFrame>
  private var pending: [[Float]]
  private var written: Int64 = 0
  /// Whether the audio is kept until the length of the video is known.
  private let isHeld: Bool

  static func supports(sampleRate: Int, channelCount: Int) -> Bool {
    rates.contains(sampleRate) && (1...8).contains(channelCount) && channelCount != 7
  }

  /// The AAC format that loses least of some audio: the next higher sample rate, or half or a
  /// quarter of one that is too high; 5.1 for 6.1; stereo for more than 8 channels.
  package static func nearest(sampleRate: Int, channelCount: Int) -> (
    sampleRate: Int, channelCount: Int
  ) {
    let count = channelCount == 7 ? 6 : channelCount > 8 ? 2 : channelCount
    if rates.contains(sampleRate) { return (sampleRate, count) }
    let parts = (1...8).lazy.compactMap { sampleRate % $0 == 0 ? sampleRate / $0 : nil }
    if let highest = rates.first, sampleRate > highest {
      return (parts.first { rates.contains($0) } ?? highest, count)
    }
    return (rates.last { $0 > sampleRate } ?? 48000, count)
  }

  init(_ audio: VideoWriter.Audio, in format: UnsafeMutablePointer<AVFormatContext>, file: String)
    throws
  {
    guard Self.supports(sampleRate: audio.sampleRate, channelCount: audio.channelCount) else {
      throw MediaError(
        .badOption, file: file,
        "AAC cannot hold \(audio.channelCount) channels at \(audio.sampleRate) samples per second",
        remedy: "Use 1 to 6 or 8 channels and a usual rate such as 48000.")
    }
    encoder = try Encoder(named: "aac", in: format, file: file) { codec in
      codec.pointee.sample_rate = Int32(audio.sampleRate)
      codec.pointee.sample_fmt = AV_SAMPLE_FMT_FLTP
      av_channel_layout_default(&codec.pointee.ch_layout, Int32(audio.channelCount))
      codec.pointee.time_base = AVRational(num: 1, den: Int32(audio.sampleRate))
      codec.pointee.bit_rate = Int64(audio.channelCount) * 96_000
    }
    guard let frame = av_frame_alloc() else { throw outOfMemory(file: file) }
    self.frame = frame
    self.file = file
    channelCount = audio.channelCount
    isHeld = audio.matchesVideo
    pending = Array(repeating: [], count: audio.channelCount)
  }

  deinit {
    var frame: UnsafeMutablePointer<AVFrame>? = frame
    av_frame_free(&frame)
  }

  func append(_ channels: [[Float]]) throws {
    guard channels.count == channelCount, Set(channels.map(\.count)).count == 1 else {
      throw MediaError(
        .badOption, file: file,
        "audio with \(channels.count) channels or unequal lengths does not fit",
        remedy: "Give \(channelCount) channels of one length.")
    }
    for channel in 0..<channelCount {
      pending[channel] += isHeld ? try clipped(channels[channel], file: file) : channels[channel]
    }
    if !isHeld { try encodeWholeFrames() }
  }

  private func encodeWholeFrames() throws {
    let size = Int(encoder.codec.pointee.frame_size)
    var used = 0
    while pending[0].count - used >= size {
      try encode(from: used, count: size)
      used += size
    }
    if used > 0 { for channel in 0..<channelCount { pending[channel].removeFirst(used) } }
  }

  /// - Parameter seconds: The length of the video; audio that was kept is cut or padded with
  ///   silence to this length.
  func finish(seconds: Double) throws {
    if isHeld {
      let wanted = Int((seconds * Double(encoder.codec.pointee.sample_rate)).rounded())
      for channel in 0..<channelCount {
        pending[channel] = Array(pending[channel].prefix(wanted))
        pending[channel] += [Float](repeating: 0, count: wanted - pending[channel].count)
      }
      try encodeWholeFrames()
    }
    if !pending[0].isEmpty { try encode(from: 0, count: pending[0].count) }
    try encoder.encode(nil)
  }

  private func encode(from start: Int, count: Int) throws {
    av_frame_unref(frame)
    frame.pointee.format = AV_SAMPLE_FMT_FLTP.rawValue
    frame.pointee.nb_samples = Int32(count)
    frame.pointee.sample_rate = encoder.codec.pointee.sample_rate
    try check(
      av_channel_layout_copy(&frame.pointee.ch_layout, &encoder.codec.pointee.ch_layout), .writing,
      file: file, "its audio cannot be laid out", remedy: "Free memory.")
    try check(
      av_frame_get_buffer(frame, 0), .writing, file: file, "out of memory for audio",
      remedy: "Free memory.")
    for channel in 0..<channelCount {
      guard let plane = frame.pointee.extended_data[channel] else { throw outOfMemory(file: file) }
      pending[channel].withUnsafeBytes { bytes in
        UnsafeMutableRawPointer(plane).copyMemory(
          from: UnsafeRawBufferPointer(rebasing: bytes[(4 * start)..<(4 * (start + count))])
            .baseAddress
            ?? UnsafeRawPointer(plane), byteCount: 4 * count)
      }
    }
    frame.pointee.pts = written
    written += Int64(count)
    try encoder.encode(frame)
  }
}

extension VideoWriter.Audio {
  /// Whether AAC supports the format.
  public var isPossible: Bool {
    AudioTrackWriter.supports(sampleRate: sampleRate, channelCount: channelCount)
  }
}
