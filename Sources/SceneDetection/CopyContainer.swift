import CFFmpeg
import Media

/// A container format that streams can be copied into without encoding.
enum CopyContainer {
  /// File extensions in the order in which they are tried; the source's family comes first.
  ///
  /// - Parameter isOriented: Whether the container must store an orientation of the frames.
  static func candidates(forMP4 isMP4: Bool, isOriented: Bool) -> [String] {
    if isMP4 { return ["mp4", "mov", "mkv"] }
    // FFmpeg 5 doesn't write an orientation to Matroska.
    return isOriented ? ["mp4", "mov", "mkv"] : ["mkv", "mov", "avi", "nut"]
  }

  /// The first file extension whose muxer accepts the streams.
  ///
  /// - Throws: `MediaError` if none does.
  static func choose(for readers: [PacketReader], among candidates: [String]) throws -> String {
    for ending in candidates where try accepts(ending, readers) { return ending }
    let names = readers.map {
      String(cString: avcodec_get_name($0.stream.pointee.codecpar.pointee.codec_id))
    }
    throw MediaError(
      .badOption, file: readers.first?.file ?? "",
      "no container takes its streams (\(names.joined(separator: ", "))), so its scenes can't be copied",
      remedy: "Leave out `copy`; the scenes are then encoded.")
  }

  /// Whether the muxer of a file extension can write a header for the streams.
  private static func accepts(_ ending: String, _ readers: [PacketReader]) throws -> Bool {
    var format: UnsafeMutablePointer<AVFormatContext>?
    guard avformat_alloc_output_context2(&format, nil, nil, "scene." + ending) >= 0, let format
    else {
      return false
    }
    defer { avformat_free_context(format) }
    allowEverything(format)
    for reader in readers { _ = try addStream(like: reader, to: format, name: "scene." + ending) }
    guard avio_open_dyn_buf(&format.pointee.pb) >= 0 else {
      throw outOfMemory(file: readers.first?.file ?? "")
    }
    let status = avformat_write_header(format, nil)
    var bytes: UnsafeMutablePointer<UInt8>?
    avio_close_dyn_buf(format.pointee.pb, &bytes)
    av_free(bytes)
    format.pointee.pb = nil
    if status == cffmpeg_out_of_memory { throw outOfMemory(file: readers.first?.file ?? "") }
    return status >= 0
  }

  /// Allows streams that the muxer calls experimental, because the source already has them.
  static func allowEverything(_ format: UnsafeMutablePointer<AVFormatContext>) {
    format.pointee.strict_std_compliance = -2
  }

  /// Adds a stream with the properties of a reader's.
  ///
  /// - Parameter name: The file name for errors.
  static func addStream(
    like reader: PacketReader, to format: UnsafeMutablePointer<AVFormatContext>, name: String
  ) throws -> UnsafeMutablePointer<AVStream> {
    guard let stream = avformat_new_stream(format, nil) else { throw outOfMemory(file: name) }
    let remedy = "Leave out `copy`; the scenes are then encoded."
    let source = reader.stream
    try check(
      avcodec_parameters_copy(stream.pointee.codecpar, source.pointee.codecpar), .writing,
      file: name,
      "its streams cannot be described", remedy: remedy)
    try check(
      cffmpeg_copy_display_matrix(stream, source), .writing, file: name,
      "its rotation cannot be kept",
      remedy: remedy)
    // A codec tag that the container supports is kept, because it distinguishes profiles; others
    // are chosen again.
    let tag = source.pointee.codecpar.pointee.codec_tag
    let isKnown =
      format.pointee.oformat.pointee.codec_tag != nil
      && av_codec_get_id(format.pointee.oformat.pointee.codec_tag, tag)
        == source.pointee.codecpar.pointee.codec_id
    stream.pointee.codecpar.pointee.codec_tag = isKnown ? tag : 0
    stream.pointee.time_base = source.pointee.time_base
    stream.pointee.avg_frame_rate = source.pointee.avg_frame_rate
    // Muxers reject streams whose container and codec have different aspect ratios; players use the
    // container's.
    let aspect = av_guess_sample_aspect_ratio(reader.format, source, nil)
    stream.pointee.sample_aspect_ratio = aspect
    stream.pointee.codecpar.pointee.sample_aspect_ratio = aspect
    return stream
  }
}
