import CFFmpeg
import Media

/// Copies scenes from a file without encoding, cut at keyframes: the video, and audio if the
/// container accepts it.
///
/// Two readers read the file in parallel, so that video and audio stay synchronized however they
/// are interleaved.
final class SceneCopier {
  /// The extension of a container that accepts the streams, preferably of the file's own family.
  let fileExtension: String
  /// Notes for the user, as sentences.
  private(set) var notes: [String] = []
  private let index: KeyframeIndex
  private let name: (Int, String) -> String
  /// The container's orientation, if it has one.
  private let orientation: Orientation?
  private let input: String
  private let folder: String
  private let video: PacketReader
  private let audio: PacketReader?
  /// The frames dropped at the end of a scene, by the scene's index: their number and the time of
  /// the first one.
  private(set) var losses: [Int: (count: Int, seconds: Double)] = [:]

  /// - Parameters:
  ///   - audioTrack: The audio track to copy.
  ///   - name: Returns the final path of a scene's file, by its number and extension, for errors.
  /// - Throws: `MediaError` if the streams can't be copied.
  init(
    _ source: VideoReader, folder: String, index: KeyframeIndex,
    audioTrack: AudioTrackChoice = .automatic,
    name: @escaping (Int, String) -> String
  ) throws {
    input = source.path
    self.folder = folder
    self.index = index
    self.name = name
    video = try PacketReader(file: input, kind: AVMEDIA_TYPE_VIDEO)
    audio =
      source.hasAudio
      ? try PacketReader(file: input, kind: AVMEDIA_TYPE_AUDIO, audioTrack: audioTrack) : nil
    orientation = source.isOrientedByContainer ? source.orientation : nil
    let candidates = CopyContainer.candidates(forMP4: video.isMP4, isOriented: orientation != nil)
    fileExtension = try CopyContainer.choose(
      for: [video, audio].compactMap { $0 }, among: candidates)
    let keepsEdits = ["mp4", "mov"].contains(fileExtension)
    if index.hidesFrames || index.hidesStart && !keepsEdits {
      throw MediaError(
        .badOption, file: input, "has an edit list that leaves out frames, which a copy can't do",
        remedy: "Leave out `copy`; the scenes are then encoded.")
    }
    if orientation != nil, !keepsEdits {
      notes.append("The scenes are not rotated as the video asks: \(fileExtension) can't say it.")
    }
  }

  /// A note about the audio track, as a sentence; nil for a file with one track.
  var trackNote: String? {
    audio?.trackNote.map { $0.prefix(1).uppercased() + $0.dropFirst() + "." }
  }

  /// - Parameters:
  ///   - scenes: All found scenes with different keyframes; only those to keep are written.
  ///   - end: The end of the last scene in seconds on the container's clock; nil for the end of the
  ///     file.
  ///   - progress: Called with the number of packets read.
  /// - Returns: The files, in order.
  func write(_ scenes: [FoundScene], end: Double?, progress: (Int) throws -> Void) throws
    -> [String]
  {
    var files: [String] = []
    var next = 0
    var current: CopiedScene?
    var start: Double?
    let starts = scenes.map { $0.keyframe?.packetSeconds ?? $0.startSeconds }
    func close(at seconds: Double?) throws {
      guard let scene = current else { return }
      try pullAudio(until: seconds, into: scene)
      try scene.finish()
      current = nil
    }
    var count = 0
    // No frame needs the hidden packets at the end.
    let packetCount = index.count - index.hiddenEnd
    while count < packetCount, let packet = try video.peek() {
      guard packet.pointee.pts != cffmpeg_no_timestamp, let seconds = video.seconds(of: packet)
      else {
        throw MediaError(
          .badOption, file: input,
          "does not say when its frames are shown, so its scenes cannot be copied",
          remedy: "Leave out `copy`.")
      }
      // Later packets are also shown later.
      if let end, next == scenes.count, (video.decodingSeconds(of: packet) ?? seconds) >= end - 1e-6
      {
        break
      }
      let isKey = packet.pointee.flags & AV_PKT_FLAG_KEY != 0
      let isStart = count == 0 && scenes.first?.keyframe?.isFileStart == true
      if isStart || isKey, next < scenes.count, seconds >= starts[next] - 1e-6 {
        // Audio begins when the first frame is shown.
        let shown = scenes[next].keyframe.map { max(seconds, $0.seconds) } ?? seconds
        try close(at: shown)
        start = isStart ? -.infinity : seconds
        if scenes[next].isKept {
          let path = "\(folder)/\(files.count + 1).\(fileExtension)"
          current = try CopiedScene(
            path: path, name: name(files.count + 1, fileExtension), start: shown, video: video,
            audio: audio,
            orientation: orientation)
          files.append(path)
        }
        try audio?.skip(until: shown)
        next += 1
      }
      if let start, seconds < start - 1e-6 {
        // Frames of an open group of pictures (GOP) belong to the previous scene, but can't be
        // decoded without this one.
        let loss = losses[next - 2]
        if next > 1 {
          losses[next - 2] = ((loss?.count ?? 0) + 1, min(loss?.seconds ?? seconds, seconds))
        }
      } else if let scene = current {
        try scene.write(packet, from: video)
        try pullAudio(until: seconds, into: scene)
      }
      video.take()
      count += 1
      try progress(count)
    }
    try close(at: end)
    guard next == scenes.count else {
      throw MediaError(
        .decoding, file: input, "\(scenes.count - next) scenes have no keyframe to begin at",
        remedy: "Leave out `copy`.")
    }
    return files
  }

  private func pullAudio(until seconds: Double?, into scene: CopiedScene) throws {
    guard let audio else { return }
    while let packet = try audio.peek() {
      if let seconds, let place = audio.seconds(of: packet), place >= seconds { return }
      try scene.write(packet, from: audio)
      audio.take()
    }
  }
}

/// One file that packets are copied to.
private final class CopiedScene {
  private let path: String
  private let start: Double
  private var format: UnsafeMutablePointer<AVFormatContext>?
  private let copy: UnsafeMutablePointer<AVPacket>
  private var places: [ObjectIdentifier: Int32] = [:]

  /// - Parameters:
  ///   - name: The final path of the file, for errors.
  ///   - start: The time on the source's clock that becomes 0; earlier frames become hidden.
  init(
    path: String, name: String, start: Double, video: PacketReader, audio: PacketReader?,
    orientation: Orientation?
  ) throws {
    self.path = name
    self.start = start
    guard let copy = av_packet_alloc() else { throw outOfMemory(file: name) }
    self.copy = copy
    let remedy = "Leave out `copy`; the scenes are then encoded."
    try check(
      avformat_alloc_output_context2(&format, nil, nil, path), .writing, file: name,
      "no such file can be made", remedy: remedy)
    guard let format else { throw outOfMemory(file: name) }
    CopyContainer.allowEverything(format)
    for reader in [video, audio].compactMap({ $0 }) {
      let stream = try CopyContainer.addStream(like: reader, to: format, name: name)
      // FFmpeg 5 doesn't read the orientation of some files.
      if reader === video, let orientation, cffmpeg_stream_display_matrix(reader.stream) == nil {
        let size = video.stream.pointee.codecpar.pointee
        let status = orientation.displayMatrix(width: Int(size.width), height: Int(size.height))
          .withUnsafeBufferPointer { cffmpeg_set_display_matrix(stream, $0.baseAddress) }
        try check(status, .writing, file: name, "its rotation cannot be kept", remedy: remedy)
      }
      places[ObjectIdentifier(reader)] = stream.pointee.index
    }
    try check(
      avio_open(&format.pointee.pb, "file:" + path, AVIO_FLAG_WRITE), .writing, file: name,
      "cannot be opened for writing",
      remedy: "Check the room on the disk and the rights of the folder.")
    var options: OpaquePointer?
    av_dict_set(&options, "movflags", "+faststart", 0)
    let header = avformat_write_header(format, &options)
    av_dict_free(&options)
    try check(
      header, .writing, file: name, "the container does not take these streams", remedy: remedy)
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
    let remedy = "Check the room on the disk, or leave out `copy`."
    try check(
      av_packet_ref(copy, packet), .writing, file: path, "a packet cannot be copied", remedy: remedy
    )
    let base = reader.stream.pointee.time_base
    let offset = Int64((start / av_q2d(base)).rounded())
    if copy.pointee.pts != cffmpeg_no_timestamp { copy.pointee.pts &-= offset }
    if copy.pointee.dts != cffmpeg_no_timestamp { copy.pointee.dts &-= offset }
    if copy.pointee.pts == cffmpeg_no_timestamp { copy.pointee.pts = copy.pointee.dts }
    copy.pointee.pos = -1
    copy.pointee.stream_index = place
    av_packet_rescale_ts(copy, base, stream.pointee.time_base)
    try check(
      av_interleaved_write_frame(format, copy), .writing, file: path, "cannot be written",
      remedy: remedy)
  }

  func finish() throws {
    guard let format else { return }
    let remedy = "Check the room on the disk."
    try check(av_write_trailer(format), .writing, file: path, "cannot be completed", remedy: remedy)
    try check(
      avio_closep(&format.pointee.pb), .writing, file: path, "cannot be completed", remedy: remedy)
  }
}
