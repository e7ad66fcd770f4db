import CFFmpeg
import Foundation

/// Decodes one stream of a file in presentation order; the base of `VideoReader` and `AudioReader`.
/// Like in players, damaged packets are skipped; they are counted for `ending`.
package final class StreamDecoder {
  let codec: UnsafeMutablePointer<AVCodecContext>
  private let packets: PacketReader
  private let frame: UnsafeMutablePointer<AVFrame>

  package var file: String { packets.file }
  package var format: UnsafeMutablePointer<AVFormatContext> { packets.format }
  package var stream: UnsafeMutablePointer<AVStream> { packets.stream }
  /// The note of `PacketReader`.
  package var trackNote: String? { packets.trackNote }

  private enum State { case reading, draining, ended }
  private var state = State.reading
  private(set) var packetsRead = 0
  private(set) var damagedPackets = 0
  private var failuresInARow = 0
  /// The time stamps of packets for which the decoder reported an error, or that the container
  /// marks as damaged, and whether each is a keyframe. Exact with one thread; with several, an
  /// error may be assigned to a nearby packet.
  private(set) var troubledStamps: [Int64: Bool] = [:]
  /// The number of errors that the decoder has logged.
  private let errorCount: UnsafeMutablePointer<Int64>
  private var seenErrors: Int64 = 0
  private var lastSent: (stamp: Int64, isKey: Bool)?
  /// The decoding time stamp of the first packet that has one, in the stream's time base.
  private var firstDecodingStamp: Int64?
  /// Whether packets have presentation times. AVI only has decoding times.
  private var hasPresentationStamps = false
  /// The delay of frames behind their packets because of reordering, if packets don't have
  /// presentation time stamps.
  private var reorderDelay: Int64?
  /// The end of the last packet in presentation order, in the stream's time base.
  private var lastStamp: Int64 = .min

  /// - Parameter threads: The number of decoder threads; 0 uses all cores.
  /// - Throws: The errors of `PacketReader`; `MediaError` for a stream that this FFmpeg can't
  ///   decode.
  init(
    file: String, kind: AVMediaType, threads: Int32 = 0, audioTrack: AudioTrackChoice = .automatic
  ) throws {
    packets = try PacketReader(file: file, kind: kind, audioTrack: audioTrack)
    let stream = packets.stream
    let noun = kind == AVMEDIA_TYPE_AUDIO ? "audio" : "video"
    let id = stream.pointee.codecpar.pointee.codec_id
    guard let decoder = Self.alphaDecoder(for: stream) ?? avcodec_find_decoder(id) else {
      if kind == AVMEDIA_TYPE_VIDEO, let signature = FileSignature.read(path: file) {
        throw FileSignature.error(file, signature)
      }
      let name =
        id == AV_CODEC_ID_NONE
        ? AudioTrack(number: 1, stream).tag : String(cString: avcodec_get_name(id))
      throw MediaError(
        .decoding, file: file,
        "its \(noun) is coded as \(name), which the installed FFmpeg cannot decode",
        remedy:
          "Convert the file to H.264 and AAC, or install an FFmpeg with a decoder for \(name).")
    }
    var context = avcodec_alloc_context3(decoder)
    let errorCount = UnsafeMutablePointer<Int64>.allocate(capacity: 1)
    errorCount.initialize(to: 0)
    var owned = false
    defer {
      if !owned {
        avcodec_free_context(&context)
        errorCount.deallocate()
      }
    }
    guard let codec = context else { throw outOfMemory(file: file) }
    try check(
      avcodec_parameters_to_context(codec, stream.pointee.codecpar), .decoding, file: file,
      "its \(noun) stream has invalid parameters", remedy: "Convert the file again.")
    codec.pointee.pkt_timebase = stream.pointee.time_base
    // An image decoder may return a buffer that it has not written to.
    if packets.isImage { codec.pointee.get_buffer2 = cffmpeg_marked_buffer }
    codec.pointee.thread_count = threads
    codec.pointee.opaque = UnsafeMutableRawPointer(errorCount)
    try check(
      avcodec_open2(codec, decoder, nil), .decoding, file: file,
      "its \(noun) decoder cannot be opened",
      remedy: "Convert the file to H.264 and AAC.")
    guard let frame = av_frame_alloc() else { throw outOfMemory(file: file) }
    self.codec = codec
    self.frame = frame
    self.errorCount = errorCount
    owned = true
  }

  /// The decoder that supports a WebM's alpha channel, which FFmpeg's own decoders ignore; nil if
  /// this FFmpeg lacks it.
  private static func alphaDecoder(for stream: UnsafeMutablePointer<AVStream>) -> UnsafePointer<
    AVCodec
  >? {
    guard let mode = av_dict_get(stream.pointee.metadata, "alpha_mode", nil, 0)?.pointee.value,
      String(cString: mode) == "1"
    else { return nil }
    switch stream.pointee.codecpar.pointee.codec_id {
    case AV_CODEC_ID_VP8: return avcodec_find_decoder_by_name("libvpx")
    case AV_CODEC_ID_VP9: return avcodec_find_decoder_by_name("libvpx-vp9")
    default: return nil
    }
  }

  deinit {
    var frame: UnsafeMutablePointer<AVFrame>? = frame
    var codec: UnsafeMutablePointer<AVCodecContext>? = codec
    av_frame_free(&frame)
    avcodec_free_context(&codec)
    errorCount.deallocate()
  }

  /// Whether there was any problem so far: a decoder error, or a damaged packet.
  var hasTrouble: Bool { damagedPackets > 0 || cffmpeg_error_count(errorCount) > 0 }

  /// Whether the demuxer reported errors while packets were read.
  var hasContainerErrors: Bool { packets.errorCount > 0 }

  private func noteErrors(_ failed: Bool = false) {
    let count = cffmpeg_error_count(errorCount)
    guard failed || count != seenErrors, let lastSent else { return }
    seenErrors = count
    troubledStamps[lastSent.stamp] = lastSent.isKey
  }

  /// The next decoded frame, valid until the next call; nil at the end.
  ///
  /// - Throws: `MediaError` if the disk fails or memory runs out; damage is only counted.
  package func next() throws -> UnsafeMutablePointer<AVFrame>? {
    while state != .ended {
      av_frame_unref(frame)
      let status = avcodec_receive_frame(codec, frame)
      noteErrors(status < 0 && status != cffmpeg_again && status != cffmpeg_end_of_file)
      if status >= 0 {
        failuresInARow = 0
        noteReordering()
        return frame
      }
      if status == cffmpeg_end_of_file {
        state = .ended
      } else if status == cffmpeg_again {
        if state == .draining {
          state = .ended
        } else {
          try feed()
        }
      } else if status == cffmpeg_out_of_memory {
        throw outOfMemory(file: file)
      } else {
        damagedPackets += 1
        failuresInARow += 1
        if failuresInARow > 1000 { state = .ended }
      }
    }
    return nil
  }

  /// Measures the reordering delay. The first frame is shown at the time of the first packet, but a
  /// decoder that reorders frames gives it the time of a later packet.
  private func noteReordering() {
    guard reorderDelay == nil else { return }
    let stamp = frame.pointee.best_effort_timestamp
    guard !hasPresentationStamps, stamp != cffmpeg_no_timestamp, let first = firstDecodingStamp
    else {
      reorderDelay = 0
      return
    }
    let (delay, overflows) = stamp.subtractingReportingOverflow(first)
    reorderDelay = overflows ? 0 : max(0, delay)
  }

  /// Sends the stream's next packet to the decoder, or signals the end.
  private func feed() throws {
    while true {
      guard let packet = try packets.next() else {
        state = .draining
        // Draining can't fail on an open decoder that is not yet draining.
        avcodec_send_packet(codec, nil)
        return
      }
      packetsRead += 1
      if packet.pointee.dts != cffmpeg_no_timestamp, firstDecodingStamp == nil {
        firstDecodingStamp = packet.pointee.dts
      }
      if packet.pointee.pts != cffmpeg_no_timestamp {
        hasPresentationStamps = true
        // In a damaged file, the sum may overflow.
        let (end, overflows) = packet.pointee.pts.addingReportingOverflow(
          max(0, packet.pointee.duration))
        if !overflows { lastStamp = max(lastStamp, end) }
      }
      let isDamaged = packet.pointee.flags & AV_PKT_FLAG_CORRUPT != 0
      if isDamaged { damagedPackets += 1 }
      let stamp =
        packet.pointee.pts != cffmpeg_no_timestamp ? packet.pointee.pts : packet.pointee.dts
      lastSent = (stamp, packet.pointee.flags & AV_PKT_FLAG_KEY != 0)
      let sent = avcodec_send_packet(codec, packet)
      noteErrors(isDamaged || sent < 0 && sent != cffmpeg_again)
      if sent == cffmpeg_out_of_memory { throw outOfMemory(file: file) }
      if sent < 0, sent != cffmpeg_again {
        if packet.pointee.flags & AV_PKT_FLAG_CORRUPT == 0 { damagedPackets += 1 }
        continue
      }
      return
    }
  }

  /// The number of packets that the container announces; nil if it doesn't. An MP4's index counts
  /// the packets that its edit lists keep; the stream's header counts all of them.
  var packetsExpected: Int? {
    if countsTime { return nil }
    let count =
      packets.isMP4 ? Int(avformat_index_get_entries_count(stream)) : Int(stream.pointee.nb_frames)
    return count > 0 ? count : nil
  }

  /// Whether the header's frame count is a length: for audio, AVI counts units of its time base.
  private var countsTime: Bool {
    packets.formatName == "avi" && codec.pointee.codec_type == AVMEDIA_TYPE_AUDIO
  }

  /// Whether the file is an image in MP4's container (AVIF, HEIC), not a sequence of them.
  var isStillOfHEIF: Bool {
    guard packets.isMP4, stream.pointee.nb_frames <= 1,
      let brand = av_dict_get(format.pointee.metadata, "major_brand", nil, 0)?.pointee.value
    else { return false }
    return ["avif", "mif1", "heic", "heix", "heim", "heis"].contains(String(cString: brand))
  }

  /// The number of frames in the index of an MP4 or MOV, without those that edit lists hide; nil
  /// for other containers, whose headers may be wrong.
  var indexedFrames: Int? {
    let count = Int(stream.pointee.nb_frames)
    guard packets.isMP4, count > 0 else { return nil }
    let entries = avformat_index_get_entries_count(stream)
    var discarded = 0
    for index in 0..<entries {
      if let entry = avformat_index_get_entry(stream, index),
        entry.pointee.flags & AVINDEX_DISCARD_FRAME != 0
      {
        discarded += 1
      }
    }
    return max(0, count - discarded)
  }

  /// Whether packets were read up to the length that the container gives. AVI also counts frames
  /// that repeat the previous one and have no packet.
  private var reachesItsEnd: Bool {
    let length = stream.pointee.duration
    guard length != cffmpeg_no_timestamp, length > 0, lastStamp != .min else { return false }
    let start = stream.pointee.start_time == cffmpeg_no_timestamp ? 0 : stream.pointee.start_time
    return Double(lastStamp) - Double(start) >= Double(length)
  }

  /// For containers without a packet count: the end of the stream in seconds, from Matroska's tag,
  /// an AVI's length, or the length of the file if it has no other stream.
  private var announcedEnd: Double? {
    if let tag = av_dict_get(stream.pointee.metadata, "DURATION", nil, 0)?.pointee.value {
      let parts = String(cString: tag).split(separator: ":").compactMap { Double($0) }
      if parts.count == 3 { return parts[0] * 3600 + parts[1] * 60 + parts[2] }
    }
    if countsTime {
      let length = stream.pointee.nb_frames
      return length > 0 ? Double(length) * av_q2d(stream.pointee.time_base) : nil
    }
    let whole = format.pointee.duration
    guard format.pointee.nb_streams == 1, whole != cffmpeg_no_timestamp, whole > 0,
      format.pointee.duration_estimation_method == AVFMT_DURATION_FROM_STREAM
    else { return nil }
    return Double(whole) / Double(AV_TIME_BASE)
  }

  /// The time of a frame on the container's clock in seconds; nil if the file has no time stamps.
  package func seconds(of frame: UnsafePointer<AVFrame>) -> Double? {
    let stamp = frame.pointee.best_effort_timestamp
    guard stamp != cffmpeg_no_timestamp else { return nil }
    return (Double(stamp) - Double(reorderDelay ?? 0)) * av_q2d(stream.pointee.time_base)
  }

  /// The length in seconds of the stream, or else of the file; nil if both are unknown.
  var duration: Double? {
    if stream.pointee.duration != cffmpeg_no_timestamp, stream.pointee.duration > 0 {
      return Double(stream.pointee.duration) * av_q2d(stream.pointee.time_base)
    }
    let whole = format.pointee.duration
    return whole != cffmpeg_no_timestamp && whole > 0 ? Double(whole) / Double(AV_TIME_BASE) : nil
  }

  /// Whether everything that the container announces has been decoded. Valid after `next()`
  /// returned nil.
  func ending(decoded: Int) -> Ending {
    var reasons: [String] = []
    if let expected = packetsExpected, packetsRead < expected, !reachesItsEnd {
      reasons.append("the header announces \(expected) packets, \(packetsRead) are there")
    }
    if packetsExpected == nil, let announced = announcedEnd, lastStamp != .min {
      let reached = Double(lastStamp) * av_q2d(stream.pointee.time_base)
      if reached < announced - 0.5 {
        let times = String(format: "%.2f s, it ends at %.2f s", announced, reached)
        reasons.append("the header announces \(times)")
      }
    }
    if damagedPackets > 0 {
      reasons.append(
        damagedPackets == 1 ? "a packet is damaged" : "\(damagedPackets) packets are damaged")
    }
    let count = packets.errorCount
    if codec.pointee.codec_type == AVMEDIA_TYPE_VIDEO, count > 0, packets.failure == nil {
      reasons.append("the container is damaged in \(count == 1 ? "a place" : "\(count) places")")
    }
    if let failure = packets.failure { reasons.append("the container breaks off (\(failure))") }
    return reasons.isEmpty
      ? .complete : .damaged("\(decoded) frames decoded, but " + reasons.joined(separator: "; "))
  }
}

/// The state of a stream after reading.
public enum Ending: Equatable, Sendable {
  /// Everything that the container announces was decoded.
  case complete
  /// The file is truncated or damaged; everything that could be decoded was returned. The clause
  /// says what is missing.
  case damaged(String)

  /// The clause of a damaged stream.
  public var damage: String? {
    if case .damaged(let what) = self { what } else { nil }
  }
}
