import CFFmpeg

/// Copies scenes out of a file without coding them anew, cut at keyframes: video, and sound that the container takes.
///
/// Two readers go through the file side by side, so that pictures and sound come in step however they are interleaved.
final class SceneCopier {
  /// `mp4` where the file is of that family, else `mkv`, which takes nearly everything.
  let fileExtension: String
  private let input: String
  private let folder: String
  private let video: PacketReader
  private let sound: PacketReader?
  /// By the place of a scene: how many of its last pictures were left out, and when the first of them is shown.
  private(set) var losses: [Int: (count: Int, seconds: Double)] = [:]

  init(input: String, folder: String, hasAudio: Bool) throws {
    self.input = input
    self.folder = folder
    video = try PacketReader(file: input, kind: AVMEDIA_TYPE_VIDEO)
    sound = hasAudio ? try PacketReader(file: input, kind: AVMEDIA_TYPE_AUDIO) : nil
    fileExtension = video.isMP4 ? "mp4" : "mkv"
  }

  /// - Parameters:
  ///   - scenes: all found scenes with their keyframes, no two of which begin at the same; only kept ones are written.
  ///   - end: where the last one ends in seconds on the container's clock; nil: at the end of the file.
  ///   - progress: called with the number of packets read.
  /// - Returns: the files, in order.
  func write(_ scenes: [FoundScene], end: Double?, progress: (Int) throws -> Void) throws -> [String] {
    var files: [String] = []
    var next = 0
    var current: CopiedScene?
    var start: Double?
    let starts = scenes.map { $0.keyframe?.seconds ?? $0.startSeconds }
    func close(at seconds: Double?) throws {
      guard let scene = current else { return }
      try pullSound(until: seconds, into: scene)
      try scene.finish()
      current = nil
    }
    var count = 0
    while let packet = try video.peek() {
      guard packet.pointee.pts != cffmpeg_no_timestamp, let seconds = video.seconds(of: packet) else {
        throw MediaError(
          .badOption, file: input, "does not say when its frames are shown, so its scenes cannot be copied",
          remedy: "Leave out --copy.")
      }
      // Packets that come later are shown later still.
      if let end, next == scenes.count, (video.decodingSeconds(of: packet) ?? seconds) >= end - 1e-6 { break }
      let isKey = packet.pointee.flags & AV_PKT_FLAG_KEY != 0
      if isKey, next < scenes.count, seconds >= starts[next] - 1e-6 {
        try close(at: seconds)
        start = seconds
        if scenes[next].isKept {
          let path = "\(folder)/\(files.count + 1).\(fileExtension)"
          current = try CopiedScene(path: path, start: seconds, video: video, sound: sound)
          files.append(path)
        }
        try sound?.skip(until: seconds)
        next += 1
      }
      if let start, seconds < start - 1e-6 {
        // Pictures of an open group that belong to the scene before, but cannot be decoded without this one.
        let loss = losses[next - 2]
        if next > 1 { losses[next - 2] = ((loss?.count ?? 0) + 1, min(loss?.seconds ?? seconds, seconds)) }
      } else if let scene = current {
        try scene.write(packet, from: video)
        try pullSound(until: seconds, into: scene)
      }
      video.take()
      count += 1
      try progress(count)
    }
    try close(at: end)
    guard next == scenes.count else {
      throw MediaError(
        .decoding, file: input, "\(scenes.count - next) scenes have no keyframe to begin at",
        remedy: "Leave out --copy.")
    }
    return files
  }

  private func pullSound(until seconds: Double?, into scene: CopiedScene) throws {
    guard let sound else { return }
    while let packet = try sound.peek() {
      if let seconds, let place = sound.seconds(of: packet), place >= seconds { return }
      try scene.write(packet, from: sound)
      sound.take()
    }
  }
}

/// One file that packets are copied into.
private final class CopiedScene {
  private let path: String
  private let start: Double
  private var format: UnsafeMutablePointer<AVFormatContext>?
  private let copy: UnsafeMutablePointer<AVPacket>
  private var places: [ObjectIdentifier: Int32] = [:]

  init(path: String, start: Double, video: PacketReader, sound: PacketReader?) throws {
    self.path = path
    self.start = start
    guard let copy = av_packet_alloc() else { throw outOfMemory(file: path) }
    self.copy = copy
    let remedy = "Leave out --copy; the scenes are then coded anew."
    try check(
      avformat_alloc_output_context2(&format, nil, nil, path), .writing, file: path,
      "no such file can be made",
      remedy: remedy)
    guard let format else { throw outOfMemory(file: path) }
    for reader in [video, sound].compactMap({ $0 }) {
      guard let stream = avformat_new_stream(format, nil) else { throw outOfMemory(file: path) }
      try check(
        avcodec_parameters_copy(stream.pointee.codecpar, reader.stream.pointee.codecpar), .writing,
        file: path,
        "its streams cannot be described", remedy: remedy)
      try check(
        cffmpeg_copy_display_matrix(stream, reader.stream), .writing, file: path,
        "its rotation cannot be kept", remedy: remedy)
      stream.pointee.codecpar.pointee.codec_tag = 0
      stream.pointee.time_base = reader.stream.pointee.time_base
      stream.pointee.avg_frame_rate = reader.stream.pointee.avg_frame_rate
      stream.pointee.sample_aspect_ratio = reader.stream.pointee.sample_aspect_ratio
      places[ObjectIdentifier(reader)] = stream.pointee.index
    }
    try check(
      avio_open(&format.pointee.pb, "file:" + path, AVIO_FLAG_WRITE), .writing, file: path,
      "cannot be opened for writing", remedy: "Check the room on the disk and the rights of the folder.")
    var options: OpaquePointer?
    av_dict_set(&options, "movflags", "+faststart", 0)
    let header = avformat_write_header(format, &options)
    av_dict_free(&options)
    try check(header, .writing, file: path, "the container does not take these streams", remedy: remedy)
  }

  deinit {
    if let format {
      if format.pointee.pb != nil { avio_closep(&format.pointee.pb) }
      avformat_free_context(format)
    }
    var copy: UnsafeMutablePointer<AVPacket>? = copy
    av_packet_free(&copy)
  }

  func write(_ packet: UnsafeMutablePointer<AVPacket>, from reader: PacketReader) throws {
    guard let format, let place = places[ObjectIdentifier(reader)],
      let stream = format.pointee.streams[Int(place)]
    else { return }
    av_packet_unref(copy)
    let remedy = "Check the room on the disk, or leave out --copy."
    try check(
      av_packet_ref(copy, packet), .writing, file: path, "a packet cannot be copied", remedy: remedy)
    let base = reader.stream.pointee.time_base
    let offset = Int64((start / av_q2d(base)).rounded())
    if copy.pointee.pts != cffmpeg_no_timestamp { copy.pointee.pts &-= offset }
    if copy.pointee.dts != cffmpeg_no_timestamp { copy.pointee.dts &-= offset }
    if copy.pointee.pts == cffmpeg_no_timestamp { copy.pointee.pts = copy.pointee.dts }
    copy.pointee.pos = -1
    copy.pointee.stream_index = place
    av_packet_rescale_ts(copy, base, stream.pointee.time_base)
    try check(
      av_interleaved_write_frame(format, copy), .writing, file: path, "cannot be written", remedy: remedy)
  }

  func finish() throws {
    guard let format else { return }
    let remedy = "Check the room on the disk."
    try check(av_write_trailer(format), .writing, file: path, "cannot be completed", remedy: remedy)
    try check(
      avio_closep(&format.pointee.pb), .writing, file: path, "cannot be completed", remedy: remedy)
  }
}
