import CFFmpeg
import Foundation

/// Demuxes one file and decodes one of its streams in presentation order. The base of `VideoReader` and
/// `AudioReader`. Damaged packets are passed over and counted, as players do; `ending` tells afterwards.
final class StreamDecoder {
  let file: String
  let format: UnsafeMutablePointer<AVFormatContext>
  let stream: UnsafeMutablePointer<AVStream>
  let codec: UnsafeMutablePointer<AVCodecContext>
  private let packet: UnsafeMutablePointer<AVPacket>
  private let frame: UnsafeMutablePointer<AVFrame>

  private enum State { case reading, draining, ended }
  private var state = State.reading
  private(set) var packetsRead = 0
  private(set) var damagedPackets = 0
  private var failuresInARow = 0
  /// End of the packet that is presented last, in the stream's time base.
  private var lastStamp: Int64 = .min
  private(set) var readFailure: String?

  /// - Throws: `MediaError` if the file is missing, is no media, or holds no stream of this kind that this
  ///   FFmpeg can decode.
  init(file: String, kind: AVMediaType) throws {
    silenceFFmpeg()
    self.file = file
    try Self.checkReadable(file)

    var opened: UnsafeMutablePointer<AVFormatContext>?
    var options: OpaquePointer?
    // Playlists and the like may name other places; a data set's file must not reach beyond the disk.
    av_dict_set(&options, "protocol_whitelist", "file", 0)
    // A percent sign in a picture's name is no pattern.
    av_dict_set(&options, "pattern_type", "none", 0)
    let status = avformat_open_input(&opened, "file:" + file, nil, &options)
    av_dict_free(&options)
    let notMedia = "Give a video, picture or sound file that FFmpeg can read, or copy the file anew."
    try check(
      status, .notMedia, file: file,
      Self.isMP4(file)
        ? "an MP4 without its index, as when a recording or a copy broke off" : "not a readable media file",
      remedy: notMedia)
    guard let format = opened else { throw outOfMemory(file: file) }

    var owned = false
    defer { if !owned { avformat_close_input(&opened) } }
    // The "tty" reader takes any text file for a picture of a terminal.
    if let name = format.pointee.iformat?.pointee.name, String(cString: name) == "tty" {
      throw MediaError(.notMedia, file: file, "a text file, not a media file", remedy: notMedia)
    }
    try check(
      avformat_find_stream_info(format, nil), .notMedia, file: file, "no stream can be understood",
      remedy: notMedia)

    let noun = kind == AVMEDIA_TYPE_AUDIO ? "sound" : "video"
    var decoder: UnsafePointer<AVCodec>?
    let index = av_find_best_stream(format, kind, -1, -1, &decoder, 0)
    // The reference takes the first stream, not the "best" one.
    let all = (0..<Int(format.pointee.nb_streams)).filter { i in
      format.pointee.streams[i]?.pointee.codecpar.pointee.codec_type == kind
    }
    let first = all.first { i in
      (format.pointee.streams[i]?.pointee.disposition ?? 0) & Int32(AV_DISPOSITION_ATTACHED_PIC) == 0
    }
    guard let first, let stream = format.pointee.streams[first] else {
      throw MediaError(
        .noStream, file: file, "holds no \(noun)" + (all.isEmpty ? "" : " but a cover picture"),
        remedy: "Give a file with a \(noun) stream.")
    }
    if Int(index) != first { decoder = avcodec_find_decoder(stream.pointee.codecpar.pointee.codec_id) }
    guard let decoder else {
      let name = String(cString: avcodec_get_name(stream.pointee.codecpar.pointee.codec_id))
      throw MediaError(
        .decoding, file: file, "its \(noun) is coded as \(name), which the installed FFmpeg cannot decode",
        remedy: "Convert the file to H.264 and AAC, or install an FFmpeg with a decoder for \(name).")
    }
    var context = avcodec_alloc_context3(decoder)
    defer { if !owned { avcodec_free_context(&context) } }
    guard let codec = context else { throw outOfMemory(file: file) }
    try check(
      avcodec_parameters_to_context(codec, stream.pointee.codecpar), .decoding, file: file,
      "its \(noun) stream is described wrongly", remedy: "Convert the file anew.")
    codec.pointee.pkt_timebase = stream.pointee.time_base
    codec.pointee.thread_count = 0  // as many threads as there are cores
    try check(
      avcodec_open2(codec, decoder, nil), .decoding, file: file, "its \(noun) decoder cannot be opened",
      remedy: "Convert the file to H.264 and AAC.")
    for i in 0..<Int(format.pointee.nb_streams) where i != first {
      format.pointee.streams[i]?.pointee.discard = AVDISCARD_ALL
    }
    var packet = av_packet_alloc()
    guard let readPacket = packet else { throw outOfMemory(file: file) }
    guard let frame = av_frame_alloc() else {
      av_packet_free(&packet)
      throw outOfMemory(file: file)
    }
    self.format = format
    self.stream = stream
    self.codec = codec
    self.packet = readPacket
    self.frame = frame
    owned = true
  }

  deinit {
    var frame: UnsafeMutablePointer<AVFrame>? = frame
    var packet: UnsafeMutablePointer<AVPacket>? = packet
    var codec: UnsafeMutablePointer<AVCodecContext>? = codec
    var format: UnsafeMutablePointer<AVFormatContext>? = format
    av_frame_free(&frame)
    av_packet_free(&packet)
    avcodec_free_context(&codec)
    avformat_close_input(&format)
  }

  private static func checkReadable(_ file: String) throws {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: file, isDirectory: &isFolder) else {
      throw MediaError(.notReadable, file: file, "no such file", remedy: "Check the path.")
    }
    if isFolder.boolValue {
      throw MediaError(.notReadable, file: file, "is a folder", remedy: "Give a media file.")
    }
    guard FileManager.default.isReadableFile(atPath: file) else {
      throw MediaError(
        .notReadable, file: file, "may not be read", remedy: "Give yourself the right to read it.")
    }
    var status = stat()
    if stat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size == 0 {
      throw MediaError(.notMedia, file: file, "is empty (0 bytes)", remedy: "Copy the file anew.")
    }
  }

  /// Whether a file begins as MP4 and MOV files do.
  private static func isMP4(_ file: String) -> Bool {
    guard let handle = FileHandle(forReadingAtPath: file) else { return false }
    do {
      return try handle.read(upToCount: 8)?.dropFirst(4).elementsEqual("ftyp".utf8) ?? false
    } catch { return false }  // only a better word for an error depends on it
  }

  /// The next decoded frame, valid until the next call; nil at the end.
  ///
  /// - Throws: `MediaError` if the disk fails or memory runs out; damage is counted instead.
  func next() throws -> UnsafeMutablePointer<AVFrame>? {
    while state != .ended {
      av_frame_unref(frame)
      let status = avcodec_receive_frame(codec, frame)
      if status >= 0 {
        failuresInARow = 0
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

  /// Hands the stream's next packet to the decoder, or tells it that there is none left.
  private func feed() throws {
    while true {
      av_packet_unref(packet)
      let status = av_read_frame(format, packet)
      if status < 0 {
        try noteEndOfReading(status)
        state = .draining
        // Draining cannot fail on an open decoder that is not yet draining.
        avcodec_send_packet(codec, nil)
        return
      }
      guard packet.pointee.stream_index == stream.pointee.index else { continue }
      packetsRead += 1
      if packet.pointee.pts != cffmpeg_no_timestamp {
        // In a damaged file, the sum may be beyond what an integer holds.
        let (end, overflows) = packet.pointee.pts.addingReportingOverflow(max(0, packet.pointee.duration))
        if !overflows { lastStamp = max(lastStamp, end) }
      }
      if packet.pointee.flags & AV_PKT_FLAG_CORRUPT != 0 { damagedPackets += 1 }
      let sent = avcodec_send_packet(codec, packet)
      if sent == cffmpeg_out_of_memory { throw outOfMemory(file: file) }
      if sent < 0, sent != cffmpeg_again {
        if packet.pointee.flags & AV_PKT_FLAG_CORRUPT == 0 { damagedPackets += 1 }
        continue
      }
      return
    }
  }

  /// The time stamp of the stream's next packet, which is not decoded; nil for one without. Not to be mixed with `next()`.
  ///
  /// - Returns: nil at the end.
  func nextPacketTime() throws -> Int64?? {
    while true {
      av_packet_unref(packet)
      let status = av_read_frame(format, packet)
      if status < 0 {
        try noteEndOfReading(status)
        return nil
      }
      guard packet.pointee.stream_index == stream.pointee.index else { continue }
      return .some(packet.pointee.pts == cffmpeg_no_timestamp ? nil : packet.pointee.pts)
    }
  }

  private func noteEndOfReading(_ status: Int32) throws {
    if status == cffmpeg_end_of_file {
      if let io = format.pointee.pb, io.pointee.error < 0, io.pointee.error != cffmpeg_end_of_file {
        throw readError(io.pointee.error)
      }
    } else if status == cffmpeg_invalid_data {
      readFailure = ffmpegMessage(status)
    } else {
      throw readError(status)
    }
  }

  private func readError(_ status: Int32) -> MediaError {
    if status == cffmpeg_out_of_memory { return outOfMemory(file: file) }
    return MediaError(
      .notReadable, file: file, "reading fails (\(ffmpegMessage(status)))",
      remedy: "Check the disk or the network share.")
  }

  /// Counts the packets of a file's first video by reading it whole, without decoding: its frames, if it is not damaged.
  static func countPackets(file: String) throws -> Int {
    let decoder = try StreamDecoder(file: file, kind: AVMEDIA_TYPE_VIDEO)
    var count = 0
    while av_read_frame(decoder.format, decoder.packet) >= 0 {
      let isShown = decoder.packet.pointee.flags & AV_PKT_FLAG_DISCARD == 0
      if decoder.packet.pointee.stream_index == decoder.stream.pointee.index, isShown { count += 1 }
      av_packet_unref(decoder.packet)
    }
    return count
  }

  /// How many packets the container says it holds; nil where it does not say. The index of an MP4 counts what
  /// its edit lists keep, the stream's header everything.
  var packetsExpected: Int? {
    if countsTime { return nil }
    let isMP4 = formatName.hasPrefix("mov,")
    let count = isMP4 ? Int(avformat_index_get_entries_count(stream)) : Int(stream.pointee.nb_frames)
    return count > 0 ? count : nil
  }

  private var formatName: String {
    format.pointee.iformat?.pointee.name.map { String(cString: $0) } ?? ""
  }

  /// Whether what the header gives as a count is a length: for sound, an AVI has units of its time base there.
  private var countsTime: Bool {
    formatName == "avi" && codec.pointee.codec_type == AVMEDIA_TYPE_AUDIO
  }

  /// Whether packets were read up to the length that the container gives. An AVI counts frames that merely repeat
  /// the one before and have no packet.
  private var reachesItsEnd: Bool {
    let length = stream.pointee.duration
    guard length != cffmpeg_no_timestamp, length > 0, lastStamp != .min else { return false }
    let start = stream.pointee.start_time == cffmpeg_no_timestamp ? 0 : stream.pointee.start_time
    return Double(lastStamp) - Double(start) >= Double(length)
  }

  /// For containers that count no packets: where the stream ends in seconds, as Matroska's tag or an AVI's length
  /// says, or the whole file if it holds nothing else.
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

  /// Time of a frame on the container's clock in seconds; nil where the file has no time stamps.
  func seconds(of frame: UnsafePointer<AVFrame>) -> Double? {
    let stamp = frame.pointee.best_effort_timestamp
    guard stamp != cffmpeg_no_timestamp else { return nil }
    return Double(stamp) * av_q2d(stream.pointee.time_base)
  }

  /// Length in seconds of the stream, else of the file; nil where neither says.
  var duration: Double? {
    if stream.pointee.duration != cffmpeg_no_timestamp, stream.pointee.duration > 0 {
      return Double(stream.pointee.duration) * av_q2d(stream.pointee.time_base)
    }
    let whole = format.pointee.duration
    return whole != cffmpeg_no_timestamp && whole > 0 ? Double(whole) / Double(AV_TIME_BASE) : nil
  }

  /// Whether everything that the container announces has been decoded. Meaningful after `next()` gave nil.
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
    if damagedPackets > 0 { reasons.append("\(damagedPackets) packets are damaged") }
    if let readFailure { reasons.append("the container breaks off (\(readFailure))") }
    return reasons.isEmpty
      ? .complete : .damaged("\(decoded) frames decoded, but " + reasons.joined(separator: "; "))
  }
}

/// How reading a stream ended.
public enum Ending: Equatable, Sendable {
  /// Everything that the container announces was decoded.
  case complete
  /// The file is cut off or damaged; what could be decoded was given out. One clause says what is missing.
  case damaged(String)

  /// The clause of a damaged stream.
  public var damage: String? {
    if case .damaged(let what) = self { what } else { nil }
  }
}
