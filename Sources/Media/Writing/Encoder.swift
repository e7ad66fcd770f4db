import CFFmpeg

/// One stream of a file being written: an open encoder and the destination of its packets.
final class Encoder {
  let codec: UnsafeMutablePointer<AVCodecContext>
  private let stream: UnsafeMutablePointer<AVStream>
  private let format: UnsafeMutablePointer<AVFormatContext>
  private let packet: UnsafeMutablePointer<AVPacket>
  private let file: String
  /// The duration of the frame with a time stamp, in the codec's time base; other frames have the
  /// duration that follows from the rate.
  var knownDuration: (stamp: Int64, duration: Int64)?

  /// - Parameter configure: Sets size, rate and other settings before the encoder is opened.
  /// - Throws: `MediaError` if this FFmpeg lacks the encoder or the encoder rejects the settings.
  init(
    named name: String, in format: UnsafeMutablePointer<AVFormatContext>, file: String,
    options: [String: String] = [:], configure: (UnsafeMutablePointer<AVCodecContext>) -> Void
  ) throws {
    guard let encoder = avcodec_find_encoder_by_name(name) else {
      throw MediaError(
        .system, file: file, "the installed FFmpeg has no encoder \(name)",
        remedy: "Install an FFmpeg that was built with it.")
    }
    var context = avcodec_alloc_context3(encoder)
    guard let codec = context else { throw outOfMemory(file: file) }
    var packet = av_packet_alloc()
    var owned = false
    defer {
      if !owned {
        avcodec_free_context(&context)
        av_packet_free(&packet)
      }
    }
    guard let readyPacket = packet, let stream = avformat_new_stream(format, nil) else {
      throw outOfMemory(file: file)
    }
    configure(codec)
    if let flags = format.pointee.oformat?.pointee.flags, flags & AVFMT_GLOBALHEADER != 0 {
      codec.pointee.flags |= 1 << 22  // AV_CODEC_FLAG_GLOBAL_HEADER
    }
    var dictionary: OpaquePointer?
    for (key, value) in options { av_dict_set(&dictionary, key, value, 0) }
    let status = avcodec_open2(codec, encoder, &dictionary)
    av_dict_free(&dictionary)
    try check(
      status, .writing, file: file, "the encoder \(name) refuses these settings",
      remedy: "Use an even frame size up to 16384 and a usual frame or sample rate.")
    stream.pointee.time_base = codec.pointee.time_base
    try check(
      avcodec_parameters_from_context(stream.pointee.codecpar, codec), .writing, file: file,
      "the encoder \(name) cannot be described in the file", remedy: "Use other settings.")
    self.codec = codec
    self.stream = stream
    self.format = format
    self.packet = readyPacket
    self.file = file
    owned = true
    if codec.pointee.codec_type == AVMEDIA_TYPE_VIDEO {
      stream.pointee.avg_frame_rate = codec.pointee.framerate
      stream.pointee.sample_aspect_ratio = codec.pointee.sample_aspect_ratio
    }
  }

  deinit {
    var codec: UnsafeMutablePointer<AVCodecContext>? = codec
    var packet: UnsafeMutablePointer<AVPacket>? = packet
    avcodec_free_context(&codec)
    av_packet_free(&packet)
  }

  /// Encodes a frame, or with nil the frames that the encoder still buffers, and writes the
  /// resulting packets.
  package func encode(_ frame: UnsafeMutablePointer<AVFrame>?) throws {
    try check(
      avcodec_send_frame(codec, frame), .writing, file: file, "a frame cannot be encoded",
      remedy: "Check the frames' size and the room on the disk.")
    while true {
      let status = avcodec_receive_packet(codec, packet)
      if status == cffmpeg_again || status == cffmpeg_end_of_file { return }
      try check(
        status, .writing, file: file, "a frame cannot be encoded", remedy: "Check the frames' size."
      )
      if let known = knownDuration, known.stamp == packet.pointee.pts {
        packet.pointee.duration = known.duration
      } else if packet.pointee.duration == 0, codec.pointee.codec_type == AVMEDIA_TYPE_VIDEO {
        let frameLength = AVRational(
          num: codec.pointee.framerate.den, den: codec.pointee.framerate.num)
        packet.pointee.duration = max(1, av_rescale_q(1, frameLength, codec.pointee.time_base))
      }
      av_packet_rescale_ts(packet, codec.pointee.time_base, stream.pointee.time_base)
      packet.pointee.stream_index = stream.pointee.index
      try check(
        av_interleaved_write_frame(format, packet), .writing, file: file, "cannot be written",
        remedy: "Check the room on the disk.")
    }
  }
}
