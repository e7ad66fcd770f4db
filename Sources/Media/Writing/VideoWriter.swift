import CFFmpeg
import Support

/// Writes an MP4 with H.264 (yuv420p) and, if requested, AAC. The file appears after `finish()`;
/// nothing remains of a writer that is dropped earlier.
public final class VideoWriter {
  /// The quality of H.264 encoding.
  public struct Quality: Equatable, Sendable {
    /// x264's constant rate factor: 0 (lossless) to 51.
    public let crf: Int
    /// x264's preset, from `ultrafast` to `veryslow`.
    public let preset: String

    public init(crf: Int = 18, preset: String = "medium") {
      self.crf = crf
      self.preset = preset
    }
  }

  /// The encoder of the frames.
  public enum Codec: String, CaseIterable, Sendable {
    /// H.264 by x264.
    case h264 = "libx264"
    /// MPEG-4 Part 2 by FFmpeg's own encoder, for an FFmpeg without x264, with a fixed high quality
    /// and 8 bits per sample.
    case mpeg4

    public var isAvailable: Bool { avcodec_find_encoder_by_name(rawValue) != nil }

    /// H.264 if the installed FFmpeg has x264, otherwise MPEG-4.
    public static var preferred: Codec { h264.isAvailable ? .h264 : .mpeg4 }

    /// A note for users about `preferred`; nil for H.264.
    public static var note: String? { preferred.note }

    package var note: String? {
      switch self {
      case .h264: nil
      case .mpeg4:
        "the installed FFmpeg has no encoder for H.264 (libx264), so videos are written as MPEG-4 "
          + "Part 2"
      }
    }

    /// The largest number of units of time a second; nil for any.
    fileprivate var maxTimeUnits: Int32? { self == .mpeg4 ? 65_535 : nil }
  }

  /// The format of the audio track: a sample rate (one of AAC's, such as 16000, 44100, 48000) and 1
  /// to 8 channels.
  public struct Audio: Equatable, Sendable {
    public let sampleRate: Int
    public let channelCount: Int
    /// Whether audio ends with the video (longer audio is cut, shorter audio padded with silence)
    /// and is limited to full scale, as generated audio needs and copied audio does not. Such audio
    /// is kept in memory until the end.
    public let matchesVideo: Bool

    public init(sampleRate: Int, channelCount: Int, matchesVideo: Bool = false) {
      self.sampleRate = sampleRate
      self.channelCount = channelCount
      self.matchesVideo = matchesVideo
    }
  }

  /// The color and pixel tags of the stream.
  package struct Tags {
    var primaries = AVCOL_PRI_BT709
    var transfer = AVCOL_TRC_BT709
    var matrix = AVCOL_SPC_BT709
    var range = AVCOL_RANGE_MPEG
    package var pixelAspect = AVRational(num: 0, den: 1)

    /// BT.709, to which RGB is converted.
    package init() {}

    /// The bits of each sample: 8, or 10 if the frames have more.
    package var depth = 8

    /// The tags of a decoded frame, which remain correct because YUV is not converted. RGB is
    /// converted to YUV by the matrix of its primaries, and keeps its primaries and transfer
    /// function.
    package init(of frame: UnsafePointer<AVFrame>, orientation: Orientation, color: ColorStage) {
      let description = color.description(of: frame)
      (primaries, transfer) = color.tags(of: frame)
      let format = AVPixelFormat(frame.pointee.format)
      if isRGB(format) {
        let isPlain = primaries == AVCOL_PRI_UNSPECIFIED && transfer == AVCOL_TRC_UNSPECIFIED
        matrix = primaries == AVCOL_PRI_BT2020 ? AVCOL_SPC_BT2020_NCL : AVCOL_SPC_BT709
        if isPlain || transfer == AVCOL_TRC_IEC61966_2_1 {
          (primaries, transfer) = (AVCOL_PRI_BT709, AVCOL_TRC_BT709)
        }
      } else {
        matrix = color.matrixTag(of: frame)
        range = description.isFullRange ? AVCOL_RANGE_JPEG : color.rangeTag(of: frame)
      }
      if let layout = av_pix_fmt_desc_get(format), layout.pointee.comp.0.depth > 8 { depth = 10 }
      let aspect = frame.pointee.sample_aspect_ratio
      pixelAspect = orientation.swapsSides ? AVRational(num: aspect.den, den: aspect.num) : aspect
      if pixelAspect.num <= 0 || pixelAspect.den <= 0 { pixelAspect = AVRational(num: 0, den: 1) }
    }
  }

  public let path: String
  public let width: Int
  public let height: Int
  public let frameRate: Rational
  public private(set) var frameCount = 0

  private let output: AtomicFile
  private var format: UnsafeMutablePointer<AVFormatContext>?
  private var video: Encoder?
  private var audioTrack: AudioTrackWriter?
  private let converter: PixelConverter
  private let staging: UnsafeMutablePointer<AVFrame>
  private let timeBase: AVRational
  private var lastStamp: Int64 = -1
  private var finished = false

  /// - Parameters:
  ///   - width: Must be even, because chroma has half the resolution; the same for `height`.
  ///   - frameRate: Must be positive.
  ///   - codec: Only H.264 heeds `quality`.
  /// - Throws: `MediaError` for an odd or empty size, a rate that MP4 or AAC doesn't support, a
  ///   folder that does not exist, or an FFmpeg without the encoder.
  public convenience init(
    path: String, width: Int, height: Int, frameRate: Rational, audio: Audio? = nil,
    quality: Quality = Quality(), codec: Codec = .h264
  ) throws {
    try self.init(
      path: path, width: width, height: height, frameRate: frameRate, timeBase: nil, audio: audio,
      quality: quality, tags: Tags(), codec: codec)
  }

  /// - Parameters:
  ///   - timeBase: The unit of the time stamps; nil for one frame.
  ///   - reorders: Whether frames may be coded in another order than they are shown in, which makes
  ///     a smaller file. If the rate varies, the file's length and average rate are exact only
  ///     without it.
  ///   - color: The meaning of the samples of decoded frames, according to `tags`.
  ///   - light: The frame and the stream whose brightness metadata is copied.
  package init(
    path: String, width: Int, height: Int, frameRate: Rational, timeBase: Rational?, audio: Audio?,
    quality: Quality, tags: Tags, codec: Codec = .h264, reorders: Bool = true,
    color: ColorStage? = nil,
    light: (frame: UnsafePointer<AVFrame>, stream: UnsafePointer<AVStream>)? = nil
  ) throws {
    silenceFFmpeg()
    guard width > 0, height > 0, width % 2 == 0, height % 2 == 0, width <= 16384, height <= 16384
    else {
      throw MediaError(
        .badOption, file: path, "H.264 with halved chroma cannot hold \(width)x\(height) pixels",
        remedy: "Use an even width and height from 2 to 16384.")
    }
    guard frameRate.value > 0, let rate = frameRate.av,
      let base = (timeBase ?? frameRate.inverse)?.av
    else {
      throw MediaError(
        .badOption, file: path, "a frame rate of \(frameRate) is not possible",
        remedy: "Use a rate above 0, such as 25 or 24000/1001.")
    }
    if let limit = codec.maxTimeUnits, base.den > limit {
      throw MediaError(
        .badOption, file: path,
        "MPEG-4 Part 2 can't have \(base.den) units of time a second (limit \(limit))",
        remedy: "Install an FFmpeg with libx264.")
    }
    output = try AtomicFile(path: path, failing: MediaError.init(_:))
    self.path = path
    self.width = width
    self.height = height
    self.frameRate = frameRate
    self.timeBase = base
    let layout = tags.depth > 8 ? AV_PIX_FMT_YUV420P10LE : AV_PIX_FMT_YUV420P
    converter = try PixelConverter(
      file: path, to: layout, for: .encoding,
      color: color ?? ColorStage(file: path, options: ColorOptions(convertsToSDR: false)))
    converter.matrixOfRGB = Int32(bitPattern: tags.matrix.rawValue)
    guard let staging = av_frame_alloc() else { throw outOfMemory(file: path) }
    self.staging = staging
    // From here on, deinit cleans up.
    let status = avformat_alloc_output_context2(&format, nil, "mp4", output.temporaryPath)
    try check(
      status, .writing, file: path, "the MP4 writer can't be created", remedy: "Reinstall FFmpeg.")
    guard let format else { throw outOfMemory(file: path) }
    var settings: [String: String] = [:]
    switch codec {
    case .h264:
      settings = ["crf": String(quality.crf), "preset": quality.preset]
      if !reorders { settings["bf"] = "0" }
    case .mpeg4: settings = ["qmin": "2", "qmax": "3", "b": "20000000"]
    }
    video = try Encoder(named: codec.rawValue, in: format, file: path, options: settings) { codec in
      codec.pointee.width = Int32(width)
      codec.pointee.height = Int32(height)
      codec.pointee.pix_fmt = layout
      codec.pointee.time_base = base
      codec.pointee.framerate = rate
      codec.pointee.color_primaries = tags.primaries
      codec.pointee.color_trc = tags.transfer
      codec.pointee.colorspace = tags.matrix
      codec.pointee.color_range = tags.range
      codec.pointee.sample_aspect_ratio = tags.pixelAspect
    }
    if let light, let stream = format.pointee.streams[0] {
      try check(
        cffmpeg_copy_light_metadata(stream, light.frame, light.stream), .system, file: path,
        "no room for metadata",
        remedy: "Free memory.")
    }
    if let audio { audioTrack = try AudioTrackWriter(audio, in: format, file: path) }
    let remedy = "Check the room on the disk and the rights of the folder."
    try check(
      avio_open(&format.pointee.pb, "file:" + output.temporaryPath, AVIO_FLAG_WRITE), .writing,
      file: path,
      "cannot be opened for writing", remedy: remedy)
    var options: OpaquePointer?
    av_dict_set(&options, "movflags", "+faststart", 0)
    let header = avformat_write_header(format, &options)
    av_dict_free(&options)
    try check(header, .writing, file: path, "its header cannot be written", remedy: remedy)
  }

  deinit {
    video = nil
    audioTrack = nil
    close()
    var frame: UnsafeMutablePointer<AVFrame>? = staging
    av_frame_free(&frame)
    if !finished { output.discard() }
  }

  private func close() {
    guard let context = format else { return }
    if context.pointee.pb != nil { avio_closep(&context.pointee.pb) }
    avformat_free_context(context)
    format = nil
  }

  /// Adds a frame. Its `index` and `seconds` are ignored; frames follow each other at `frameRate`.
  ///
  /// - Throws: `MediaError` if the size differs from the file's, or if encoding or writing fails.
  public func append(_ frame: RGBFrame) throws { try append(frame, seconds: nil) }

  /// - Parameter seconds: The time from the file's start; nil for one frame after the previous one.
  package func append(_ frame: RGBFrame, seconds: Double?) throws {
    guard frame.width == width, frame.height == height else {
      throw MediaError(
        .badOption, file: path,
        "frame \(frameCount) is \(frame.width)x\(frame.height), the file \(width)x\(height)",
        remedy: "Scale the frames to one size.")
    }
    av_frame_unref(staging)
    staging.pointee.format = AV_PIX_FMT_RGB24.rawValue
    staging.pointee.width = Int32(width)
    staging.pointee.height = Int32(height)
    try check(
      av_frame_get_buffer(staging, 0), .writing, file: path, "no room for a frame",
      remedy: "Free memory.")
    frame.bytes.withUnsafeBufferPointer { bytes in
      av_image_copy_plane(
        staging.pointee.data.0, staging.pointee.linesize.0, bytes.baseAddress, Int32(3 * width),
        Int32(3 * width), Int32(height))
    }
    try append(decoded: staging, orientation: .upright, seconds: seconds)
  }

  /// Sets the duration of the last frame, if it differs from that of the rate.
  func endLastFrame(after seconds: Double) {
    let units = (seconds / av_q2d(timeBase)).rounded()
    guard lastStamp >= 0, units >= 1, units < 1e15 else { return }
    video?.knownDuration = (lastStamp, Int64(units))
  }

  /// Adds a decoded frame without conversion to RGB. If width or height is odd, the last column or
  /// row is dropped.
  ///
  /// - Parameter seconds: The time from the file's start; nil for one frame after the previous one.
  package func append(
    decoded frame: UnsafeMutablePointer<AVFrame>, orientation: Orientation, seconds: Double?
  ) throws {
    guard let video, !finished else { throw alreadyFinished() }
    let ready = try converter.convert(frame, orientation: orientation)
    let wanted = seconds.map { Int64(($0 / av_q2d(timeBase)).rounded()) } ?? lastStamp + 1
    ready.pointee.width = Int32(width)
    ready.pointee.height = Int32(height)
    ready.pointee.pts = max(wanted, lastStamp + 1)
    // The source's frame types would force those of the encoder.
    ready.pointee.pict_type = AV_PICTURE_TYPE_NONE
    lastStamp = ready.pointee.pts
    try video.encode(ready)
    frameCount += 1
  }

  /// Appends audio, [channel][sample] from -1 to 1.
  ///
  /// - Throws: `MediaError` if the file has no audio track or another number of channels, if a
  ///   sample is not finite, or if writing fails.
  public func append(audio channels: [[Float]]) throws {
    guard let audioTrack, !finished else {
      throw MediaError(
        .badOption, file: path, "has no audio track to append to",
        remedy: "Give the writer an audio format.")
    }
    try audioTrack.append(channels)
  }

  /// Completes the file and gives it its name.
  ///
  /// - Throws: `MediaError` if it has no frames or writing fails.
  public func finish() throws {
    guard let video, let format, !finished else { throw alreadyFinished() }
    guard frameCount > 0 else {
      throw MediaError(
        .badOption, file: path, "a video without frames", remedy: "Add at least one frame.")
    }
    try video.encode(nil)
    try audioTrack?.finish(seconds: Double(frameCount) / frameRate.value)
    let remedy = "Check the room on the disk."
    try check(av_write_trailer(format), .writing, file: path, "cannot be completed", remedy: remedy)
    try check(
      avio_closep(&format.pointee.pb), .writing, file: path, "cannot be completed", remedy: remedy)
    try output.commit()
    finished = true
    self.video = nil
    audioTrack = nil
    close()
  }

  private func alreadyFinished() -> MediaError {
    MediaError(.badOption, file: path, "is already finished", remedy: "Open a new writer.")
  }
}
