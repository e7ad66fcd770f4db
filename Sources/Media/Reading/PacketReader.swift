import CFFmpeg
import Foundation
import Support

/// Opens a media file and reads the packets of one of its streams, without decoding them.
package final class PacketReader {
  package let file: String
  package let format: UnsafeMutablePointer<AVFormatContext>
  package let stream: UnsafeMutablePointer<AVStream>
  /// The reason why the file ends early; nil if it ends properly.
  private(set) var failure: String?
  /// A note about the choice of an audio track, as a clause; nil if there was no choice.
  package let trackNote: String?
  private let packet: UnsafeMutablePointer<AVPacket>
  /// The number of errors that the demuxer has logged since the file was opened.
  private let errors: UnsafeMutablePointer<Int64>
  var errorCount: Int { Int(cffmpeg_error_count(errors)) }
  private var isWaiting = false

  /// - Parameter audioTrack: The audio track to read. For video, the first track is read, like in
  ///   upstream, not FFmpeg's "best"; cover images are ignored.
  /// - Throws: `MediaError` if the file is missing, is not a media file, has no stream of this
  ///   kind, or does not have this audio track.
  package init(file: String, kind: AVMediaType, audioTrack: AudioTrackChoice = .automatic) throws {
    silenceFFmpeg()
    self.file = file
    try Self.checkReadable(file)

    var opened: UnsafeMutablePointer<AVFormatContext>?
    var options: OpaquePointer?
    // Playlists and similar files may refer to other locations; a dataset's file must not access
    // the network.
    av_dict_set(&options, "protocol_whitelist", "file", 0)
    // A percent sign in an image's name must not be a pattern.
    av_dict_set(&options, "pattern_type", "none", 0)
    let status = avformat_open_input(&opened, "file:" + file, nil, &options)
    av_dict_free(&options)
    let signature = kind == AVMEDIA_TYPE_VIDEO ? FileSignature.read(path: file) : nil
    if let signature, signature.isMisread || status < 0 && status != cffmpeg_out_of_memory {
      avformat_close_input(&opened)
      throw FileSignature.error(file, signature)
    }
    let notMedia =
      "Give a video, image or audio file that FFmpeg can read, or copy the file again."
    try check(
      status, .notMedia, file: file,
      Self.isMP4(file)
        ? "an MP4 without its index, as when a recording or a copy broke off"
        : "not a readable media file",
      remedy: notMedia)
    guard let format = opened else { throw outOfMemory(file: file) }

    // Errors are counted from here on: the header was read successfully despite earlier ones.
    let errors = UnsafeMutablePointer<Int64>.allocate(capacity: 1)
    errors.initialize(to: 0)
    format.pointee.opaque = UnsafeMutableRawPointer(errors)
    var owned = false
    defer {
      if !owned {
        avformat_close_input(&opened)
        errors.deallocate()
      }
    }
    // FFmpeg's "tty" demuxer accepts any text file as an image of a terminal.
    if let name = format.pointee.iformat?.pointee.name, String(cString: name) == "tty" {
      throw MediaError(.notMedia, file: file, "a text file, not a media file", remedy: notMedia)
    }
    let found = avformat_find_stream_info(format, nil)
    if found < 0, found != cffmpeg_out_of_memory, let signature {
      throw FileSignature.error(file, signature)
    }
    try check(
      found, .notMedia, file: file, "no stream can be understood",
      remedy: notMedia)

    let streams = (0..<Int(format.pointee.nb_streams)).compactMap { format.pointee.streams[$0] }
    let all = streams.filter { $0.pointee.codecpar.pointee.codec_type == kind }
    let chosen =
      kind == AVMEDIA_TYPE_AUDIO ? try ChosenAudioTrack(audioTrack, in: format, file: file) : nil
    let first = all.first { stream in
      if let chosen { return stream.pointee.index == chosen.track.stream }
      return stream.pointee.disposition & Int32(AV_DISPOSITION_ATTACHED_PIC) == 0
    }
    guard let stream = first else {
      if let signature { throw FileSignature.error(file, signature) }
      let noun = kind == AVMEDIA_TYPE_AUDIO ? "audio" : "video"
      throw MediaError(
        .noStream, file: file, "holds no \(noun)" + (all.isEmpty ? "" : " except a cover image"),
        remedy: "Give a file with \(noun == "audio" ? "an" : "a") \(noun) stream.")
    }
    for other in streams where other != stream { other.pointee.discard = AVDISCARD_ALL }
    guard let packet = av_packet_alloc() else { throw outOfMemory(file: file) }
    self.format = format
    self.stream = stream
    self.packet = packet
    self.errors = errors
    trackNote = chosen?.note
    owned = true
  }

  deinit {
    var packet: UnsafeMutablePointer<AVPacket>? = packet
    var format: UnsafeMutablePointer<AVFormatContext>? = format
    av_packet_free(&packet)
    avformat_close_input(&format)
    errors.deallocate()
  }

  private static func checkReadable(_ file: String) throws {
    guard FileManager.default.fileExists(atPath: file) else {
      throw MediaError(
        .notReadable, file: file, "no such file",
        remedy: MissingFile.hint(file) ?? "Check the path.")
    }
    if isFolder(file) {
      throw MediaError(.notReadable, file: file, "is a folder", remedy: "Give a media file.")
    }
    guard FileManager.default.isReadableFile(atPath: file) else {
      throw MediaError(
        .notReadable, file: file, "may not be read", remedy: "Give yourself the right to read it.")
    }
    var status = stat()
    if stat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size == 0 {
      throw MediaError(.notMedia, file: file, "is empty (0 bytes)", remedy: "Copy the file again.")
    }
  }

  /// Whether a file begins like MP4 and MOV files.
  private static func isMP4(_ file: String) -> Bool {
    guard let handle = FileHandle(forReadingAtPath: file) else { return false }
    do {
      return try handle.read(upToCount: 8)?.dropFirst(4).elementsEqual("ftyp".utf8) ?? false
    } catch { return false }  // this only improves an error message
  }

  /// The next packet, without consuming it; nil at the end, or where a truncated file ends.
  ///
  /// - Throws: `MediaError` if the disk fails or memory runs out.
  package func peek() throws -> UnsafeMutablePointer<AVPacket>? {
    while !isWaiting {
      av_packet_unref(packet)
      let status = av_read_frame(format, packet)
      if status < 0 {
        try noteEndOfReading(status)
        return nil
      }
      isWaiting = packet.pointee.stream_index == stream.pointee.index
    }
    return packet
  }

  package func take() { isWaiting = false }

  /// The next packet, valid until the next call; nil like in `peek()`.
  package func next() throws -> UnsafeMutablePointer<AVPacket>? {
    defer { take() }
    return try peek()
  }

  /// Skips the packets before a time.
  package func skip(until seconds: Double) throws {
    while let packet = try peek(), let place = self.seconds(of: packet), place < seconds { take() }
  }

  private func noteEndOfReading(_ status: Int32) throws {
    if status == cffmpeg_end_of_file {
      if let io = format.pointee.pb, io.pointee.error < 0, io.pointee.error != cffmpeg_end_of_file {
        throw readError(io.pointee.error)
      }
    } else if status == cffmpeg_invalid_data {
      failure = ffmpegMessage(status)
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

  /// Counts the packets of a file's first video by reading the complete file. In an undamaged file
  /// this is the number of frames.
  package static func countFrames(file: String) throws -> Int {
    let packets = try PacketReader(file: file, kind: AVMEDIA_TYPE_VIDEO)
    var count = 0
    while let packet = try packets.next() {
      if packet.pointee.flags & AV_PKT_FLAG_DISCARD == 0 { count += 1 }
    }
    return count
  }

  /// FFmpeg's name of the container; possibly several names separated by commas.
  var formatName: String { format.pointee.iformat?.pointee.name.map { String(cString: $0) } ?? "" }

  /// Whether the file is a single image.
  var isImage: Bool { formatName == "image2" || formatName.hasSuffix("_pipe") }

  /// Whether the container belongs to MP4's family.
  package var isMP4: Bool { formatName.hasPrefix("mov,") }

  /// The presentation time of a packet.
  package func seconds(of packet: UnsafePointer<AVPacket>) -> Double? {
    let stamp = packet.pointee.pts != cffmpeg_no_timestamp ? packet.pointee.pts : packet.pointee.dts
    guard stamp != cffmpeg_no_timestamp else { return nil }
    let seconds = Double(stamp) * av_q2d(stream.pointee.time_base)
    // Larger times are damage.
    return abs(seconds) < 1e9 ? seconds : nil
  }

  /// The decoding time of a packet, which is not after its presentation time.
  package func decodingSeconds(of packet: UnsafePointer<AVPacket>) -> Double? {
    let stamp = packet.pointee.dts
    return stamp == cffmpeg_no_timestamp ? nil : Double(stamp) * av_q2d(stream.pointee.time_base)
  }
}

/// Whether the times of a file's frames match the file's frame rate.
package enum FrameTiming: Equatable {
  /// Each time is an integer number of frames at the rate, within the resolution of the time
  /// stamps.
  case constant
  /// Other times.
  case variable

  /// Reads a file's packets without decoding them, because containers often claim a constant rate
  /// that isn't true.
  ///
  /// - Throws: `MediaError` if the file can't be read.
  package init(path: String, rate: Rational) throws {
    let packets = try PacketReader(file: path, kind: AVMEDIA_TYPE_VIDEO)
    let base = av_q2d(packets.stream.pointee.time_base)
    let unit = base * rate.value
    var stamps: [Double] = []
    while let packet = try packets.next() {
      let stamp = Double(packet.pointee.pts)
      // Times beyond 30 years are damage, which readers ignore too.
      if packet.pointee.pts != cffmpeg_no_timestamp, abs(stamp * base) < 1e9 {
        stamps.append(stamp)
      }
    }
    guard let first = stamps.min() else {
      self = .constant
      return
    }
    let areOnGrid = stamps.allSatisfy { stamp in
      let frames = (stamp - first) * unit
      return abs(frames - frames.rounded()) <= 1.01 * unit
    }
    self = areOnGrid ? .constant : .variable
  }
}
