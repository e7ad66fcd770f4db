import CFFmpeg
import Foundation

/// An RGB image: rows from the top, pixels as red, green, blue, without padding.
public struct RGBFrame: Equatable, Sendable {
  /// `3 * width * height` bytes, [height, width, channel].
  public let bytes: [UInt8]
  public let width: Int
  public let height: Int
  /// The index in decoding order, from 0.
  public let index: Int
  /// The presentation time in seconds from the first frame.
  public let seconds: Double

  /// - Precondition: `bytes` holds `3 * width * height` values.
  public init(bytes: [UInt8], width: Int, height: Int, index: Int = 0, seconds: Double = 0) {
    precondition(bytes.count == 3 * width * height, "an RGB frame has 3 * width * height bytes")
    self.bytes = bytes
    self.width = width
    self.height = height
    self.index = index
    self.seconds = seconds
  }
}

/// The number of frames of a file, as far as known before decoding.
public enum FrameCount: Equatable, Sendable {
  /// The number in the container's index. It can be wrong in a damaged file.
  case declared(Int)
  /// An estimate: a number from the container's header, which may be wrong, or length times frame
  /// rate.
  case estimated(Int)
  case unknown

  public var value: Int? {
    switch self {
    case .declared(let count), .estimated(let count): count
    case .unknown: nil
    }
  }
}

/// Decodes the first video stream of a file, or an image (one frame), in presentation order.
///
/// The bytes equal those of upstream's reader (see `PixelConverter`). For a damaged file, all
/// frames that can be decoded are returned; after the last one, `ending` says whether any are
/// missing.
public final class VideoReader {
  public let path: String
  /// The width of the returned frames, in pixels.
  public let width: Int
  public let height: Int
  /// The orientation that the file specifies; already applied unless the reader was created without
  /// rotation.
  public let orientation: Orientation
  /// The clockwise rotation in degrees that the file specifies, if it is not a multiple of 90 and
  /// therefore not applied. NaN for a display matrix that is not a rotation.
  public let unusedRotation: Double?
  /// Whether the orientation comes from the container instead of the frames.
  package let isOrientedByContainer: Bool
  /// The clockwise quarter turns of `orientation`.
  public var quarterTurns: Int { orientation.turns }
  /// The average frames per second: the stream's average rate, or else its base rate, or else 24; 1
  /// for an image.
  public let frameRate: Rational
  /// The aspect ratio of a pixel (width / height) in the returned frames: 1 if the file doesn't
  /// give it, or gives an implausible one (below 1/16 or above 16).
  public let pixelAspect: Rational
  public let frameCount: FrameCount
  /// The length in seconds; 0 for an image, nil if the container does not give it.
  public let duration: Double?
  public let hasAudio: Bool
  public let isImage: Bool
  /// Whether frames have the constant interval of `frameRate`, according to the container.
  package let hasConstantRate: Bool
  /// The container's frame rates: the average, then the base rate; either may be missing.
  public let declaredRates: [Double]
  /// The unit of the time stamps, in seconds.
  public var timeUnit: Double { av_q2d(decoder.stream.pointee.time_base) }

  /// The orientation that is not yet applied to the frames of `nextDecoded()`.
  package let remainingOrientation: Orientation

  package let decoder: StreamDecoder
  private let frames: Deinterlacer
  private let converter: PixelConverter
  /// The resizer of the last requested geometry.
  private var resizer: FrameResizer?
  private var decoded = 0
  /// The number of frames decoded so far.
  public var framesRead: Int { decoded }
  /// Whether the decoder marked a frame as damaged.
  private var sawDamage = false
  /// The time of the first frame on the container's clock, which the file's audio shares; known
  /// after the first frame was read.
  public private(set) var firstSeconds: Double?
  /// The ICC profile of an image, if it is not sRGB.
  private var profile: ColorProfile?
  /// Whether an image has a color profile that can't be converted (one with tables, or for CMYK),
  /// so that its colors are treated as sRGB.
  public private(set) var hasUnusedProfile = false
  /// The first frame, decoded early if only it has the orientation.
  private var pending: UnsafeMutablePointer<AVFrame>?

  /// - Parameters:
  ///   - applyRotation: Rotates and mirrors the frames as the file specifies. Upstream does this
  ///     for images but not for videos.
  ///   - deinterlaces: Turns each interlaced frame into a single image, which upstream does not.
  ///   - color: The conversion of colors to RGB.
  ///   - looksAtFrames: Decodes the first frame of a video if it may have the orientation;
  ///     otherwise the size may be that of the stored frames.
  /// - Throws: `MediaError` if the file is missing, is not a media file, or has no video that can
  ///   be decoded.
  public init(
    path: String, applyRotation: Bool = true, deinterlaces: Bool = true,
    color: ColorOptions = ColorOptions(),
    looksAtFrames: Bool = true
  ) throws {
    let decoder = try StreamDecoder(file: path, kind: AVMEDIA_TYPE_VIDEO)
    let frames = try Deinterlacer(decoder, isOn: deinterlaces)
    let stream = decoder.stream
    let name = decoder.format.pointee.iformat?.pointee.name.map { String(cString: $0) } ?? ""
    isImage = name == "image2" || name.hasSuffix("_pipe") || decoder.isStillOfHEIF

    var matrix = cffmpeg_stream_display_matrix(stream).map { DisplayMatrix($0) }
    if stream.pointee.codecpar.pointee.codec_id == AV_CODEC_ID_TIFF,
      let refusal = TIFFHeader.refusal(path)
    {
      throw refusal
    }
    if isImage {
      guard let image = try frames.next() else {
        if let signature = FileSignature.read(path: path) {
          throw FileSignature.error(path, signature)
        }
        throw MediaError(
          .decoding, file: path,
          "the image cannot be decoded: it is damaged, or its size is invalid",
          remedy: "Save or copy the image again.")
      }
      if cffmpeg_is_unwritten(image) != 0 { throw TIFFHeader.undecodable(path) }
      pending = image
      matrix = cffmpeg_frame_display_matrix(image).map { DisplayMatrix($0) } ?? matrix
    }
    if let bytes = Self.profile(of: pending, stream) {
      profile = ColorProfile(bytes)
      hasUnusedProfile = profile == nil
    }
    let isOrientedByStream = matrix != nil && matrix != .orientation(.upright)
    if matrix == nil, !isImage, looksAtFrames, Self.marksFrames(decoder.codec.pointee.codec_id) {
      pending = try frames.next()
      matrix = pending.flatMap { cffmpeg_frame_display_matrix($0) }.map { DisplayMatrix($0) }
    }
    switch matrix {
    case .orientation(let said): (orientation, unusedRotation) = (said, nil)
    case .other(let degrees): (orientation, unusedRotation) = (.upright, degrees)
    case nil: (orientation, unusedRotation) = (FileOrientation.read(path: path) ?? .upright, nil)
    }
    isOrientedByContainer = isOrientedByStream || matrix == nil && orientation != .upright
    remainingOrientation = applyRotation ? orientation : .upright
    let source = pending.map { ($0.pointee.width, $0.pointee.height) }
    let codedWidth = Int(source?.0 ?? decoder.codec.pointee.width)
    let codedHeight = Int(source?.1 ?? decoder.codec.pointee.height)
    guard codedWidth > 0, codedHeight > 0 else {
      throw MediaError(
        .decoding, file: path, "no frame size can be found",
        remedy: "Copy or convert the file again.")
    }
    width = remainingOrientation.swapsSides ? codedHeight : codedWidth
    height = remainingOrientation.swapsSides ? codedWidth : codedHeight

    pixelAspect = Self.pixelAspect(
      av_guess_sample_aspect_ratio(decoder.format, decoder.stream, pending),
      swapsSides: remainingOrientation.swapsSides)

    let average = Rational(stream.pointee.avg_frame_rate)
    let base = Rational(stream.pointee.r_frame_rate)
    frameRate = isImage ? Rational(1) : average ?? base ?? Rational(24)
    declaredRates = isImage ? [1] : [average, base].compactMap { $0?.value }
    hasConstantRate =
      average == nil || base == nil
      || av_cmp_q(stream.pointee.avg_frame_rate, stream.pointee.r_frame_rate) == 0
    duration = isImage ? 0 : decoder.duration
    if isImage {
      frameCount = .declared(1)
    } else if let count = decoder.indexedFrames {
      frameCount = .declared(count)
    } else if stream.pointee.nb_frames > 0 {
      frameCount = .estimated(Int(stream.pointee.nb_frames))
    } else if let duration, average != nil || base != nil, duration * frameRate.value < 1e12 {
      frameCount = .estimated(Int((duration * frameRate.value).rounded(.toNearestOrEven)))
    } else {
      frameCount = .unknown
    }
    hasAudio = (0..<Int(decoder.format.pointee.nb_streams)).contains { i in
      decoder.format.pointee.streams[i]?.pointee.codecpar.pointee.codec_type == AVMEDIA_TYPE_AUDIO
    }
    self.path = path
    self.decoder = decoder
    self.frames = frames
    hasUnreadAlpha =
      !color.matchesUpstream && isImage && decoder.isStillOfHEIF && Self.namesAlpha(path)
    let stage = ColorStage(
      file: path, options: color, stream: stream, isImage: isImage,
      isImageFormat: Self.imageFormats.contains(name))
    let codec = stream.pointee.codecpar.pointee.codec_id
    if codec == AV_CODEC_ID_PNG {
      stage.fileTags = PNGColor(path: path).map { ($0.primaries, $0.transfer) }
    }
    stage.hasProfile = profile != nil
    if codec == AV_CODEC_ID_TIFF {
      stage.isPremultiplied = TIFFHeader(path: path)?.isPremultiplied == true
    }
    converter = try PixelConverter(
      file: path, to: AV_PIX_FMT_RGB24, for: isImage ? .images : .videoFrames, color: stage)
  }

  /// Formats of animated images, which pages show like images.
  private static let imageFormats: Set<String> = ["gif", "apng", "webp", "webp_anim", "mng", "ico"]

  /// Notes about conversions of the colors of the frames read so far, a clause each; complete after
  /// the last frame.
  public var colorNotes: [String] {
    converter.color.notes + (hasUnreadAlpha ? [Self.unreadAlpha] : [])
  }

  /// Whether an AVIF or HEIF image has alpha, which FFmpeg's demuxer ignores.
  private let hasUnreadAlpha: Bool
  private static let unreadAlpha =
    "its transparency can't be read by the installed FFmpeg, and the colors under it are used; save it as PNG"

  /// Whether an AVIF or HEIF lists an auxiliary alpha image in its first bytes, which describe its
  /// items.
  private static func namesAlpha(_ path: String) -> Bool {
    guard let handle = FileHandle(forReadingAtPath: path) else { return false }
    do {
      guard let start = try handle.read(upToCount: 1 << 16) else { return false }
      return start.range(of: Data("auxiliary:alpha".utf8)) != nil
        || start.range(of: Data("hevc:2015:auxid:1".utf8)) != nil
    } catch { return false }  // A file that can't be read is reported when it is decoded.
  }

  /// The color conversion of decoded frames.
  package var colorStage: ColorStage { converter.color }

  private static func pixelAspect(_ declared: AVRational, swapsSides: Bool) -> Rational {
    guard let aspect = Rational(declared), (1.0 / 16...16).contains(aspect.value) else {
      return Rational(1)
    }
    return swapsSides ? Rational(aspect.denominator, aspect.numerator) : aspect
  }

  /// The next frame; nil at the end, when `ending` says whether the file was complete.
  ///
  /// - Throws: `MediaError` if no frame can be decoded, if the frame size changes, or if reading
  ///   fails.
  public func next() throws -> RGBFrame? {
    guard let (frame, seconds) = try nextDecoded() else { return nil }
    return try rgb(frame, index: decoded - 1, seconds: seconds - (firstSeconds ?? 0))
  }

  /// The next frame, converted only on request; nil at the end.
  ///
  /// - Throws: The errors of `next()`.
  public func nextFrame() throws -> VideoFrame? {
    guard let (frame, seconds) = try nextDecoded() else { return nil }
    return VideoFrame(
      try FrameReference(frame, file: path), index: decoded - 1,
      seconds: seconds - (firstSeconds ?? 0),
      reader: self)
  }

  func rgb(_ frame: VideoFrame) throws -> RGBFrame {
    try rgb(frame.reference.pointer, index: frame.index, seconds: frame.seconds)
  }

  func filled(_ frame: VideoFrame, _ geometry: FrameResizer.Geometry) throws -> [Float] {
    let decoded = frame.reference.pointer
    if profile != nil, !converter.color.goesByTags(decoded) {
      return try rgb(frame).filled(geometry)
    }
    if resizer?.geometry != geometry { resizer = try FrameResizer(geometry, from: (width, height)) }
    guard let resizer else { throw outOfMemory(file: path) }
    if remainingOrientation == .upright,
      try converter.convertStrips(
        decoded, until: resizer.rows.upperBound,
        { resizer.add($0, stride: $1, from: $2, count: $3) })
    {
      return resizer.finish()
    }
    let upright = try upright(decoded)
    if let data = upright.pointee.data.0 {
      let stride = Int(upright.pointee.linesize.0)
      resizer.add(
        data + resizer.rows.lowerBound * stride, stride: stride, from: resizer.rows.lowerBound,
        count: resizer.rows.count)
    }
    return resizer.finish()
  }

  private func rgb(
    _ frame: UnsafeMutablePointer<AVFrame>, index: Int, seconds: Double
  ) throws -> RGBFrame {
    let upright = try upright(frame)
    let image = RGBFrame(
      bytes: packedRows(of: upright), width: width, height: height, index: index, seconds: seconds)
    guard let profile, !converter.color.goesByTags(frame) else { return image }
    return profile.converted(image)
  }

  /// The frame as RGB24; valid until the next call.
  private func upright(_ frame: UnsafeMutablePointer<AVFrame>) throws -> UnsafeMutablePointer<
    AVFrame
  > {
    try converter.convert(frame, orientation: remainingOrientation)
  }

  /// Whether everything that the container announces has been decoded; known after `next()`
  /// returned nil.
  public var ending: Ending { decoder.ending(decoded: decoded) }

  /// The damaged frames among those read so far, according to the decoder; nil without damage.
  /// Reads the file again if there is any sign of damage.
  ///
  /// - Throws: `MediaError` if reading fails.
  public func damage() throws -> FrameDamage? {
    guard decoder.hasTrouble || decoder.hasContainerErrors || sawDamage, decoded > 0 else {
      return nil
    }
    let damage = try FrameDamage.find(path: path, count: decoded)
    return damage.isEmpty ? nil : damage
  }

  /// Whether frames were deinterlaced.
  public var isDeinterlaced: Bool { frames.isUsed }

  /// The reason why interlaced frames were left unchanged, as a clause; nil if there were none.
  public var deinterlacingObstacle: String? { frames.obstacle }

  /// The next frame in the stream's own layout, and its time in seconds on the container's clock.
  package func nextDecoded() throws -> (UnsafeMutablePointer<AVFrame>, Double)? {
    let waiting = pending
    pending = nil
    guard let frame = try waiting ?? frames.next() else {
      if decoded == 0 {
        var what = "not one frame can be decoded"
        if case .damaged(let reason) = ending { what += " (\(reason))" }
        throw MediaError(.decoding, file: path, what, remedy: "Copy or convert the file again.")
      }
      return nil
    }
    let (wide, high) = (Int(frame.pointee.width), Int(frame.pointee.height))
    guard
      remainingOrientation.swapsSides
        ? (wide, high) == (height, width) : (wide, high) == (width, height)
    else {
      throw MediaError(
        .decoding, file: path, "frame \(decoded) is \(wide)x\(high), unlike those before it",
        remedy: "Cut the file where its size changes, or scale it to one size.")
    }
    let counted = (firstSeconds ?? 0) + Double(decoded) / frameRate.value
    // Times beyond 30 years are damage, and too large to be counted in samples.
    let stamped = decoder.seconds(of: frame).flatMap { abs($0) < 1e9 ? $0 : nil }
    let seconds = stamped ?? min(counted, 1e9)
    if firstSeconds == nil { firstSeconds = seconds }
    decoded += 1
    if cffmpeg_is_damaged(frame) != 0 { sawDamage = true }
    return (frame, seconds)
  }

  /// The unit of the stream's time stamps, or a fine one if theirs can't be written.
  var timeBase: Rational {
    let own = Rational(decoder.stream.pointee.time_base)
    return own.flatMap { $0.numerator < 10_000_000 && $0.denominator < 10_000_000 ? $0 : nil }
      ?? Rational(1, 90_000)
  }

  /// Whether frames of a codec can have an orientation: in SEI messages or Exif.
  private static func marksFrames(_ codec: AVCodecID) -> Bool {
    [AV_CODEC_ID_H264, AV_CODEC_ID_HEVC, AV_CODEC_ID_MJPEG].contains(codec)
      || String(cString: avcodec_get_name(codec)) == "vvc"
  }

  /// The ICC profile of a frame, or else of its stream.
  private static func profile(
    of image: UnsafePointer<AVFrame>?, _ stream: UnsafePointer<AVStream>
  ) -> [UInt8]? {
    if let image, let data = av_frame_get_side_data(image, AV_FRAME_DATA_ICC_PROFILE),
      let bytes = data.pointee.data
    {
      return Array(UnsafeBufferPointer(start: bytes, count: Int(data.pointee.size)))
    }
    var size = 0
    guard let bytes = cffmpeg_stream_side_data(stream, AV_PKT_DATA_ICC_PROFILE, &size), size > 0
    else {
      return nil
    }
    return Array(UnsafeBufferPointer(start: bytes, count: size))
  }

  private func packedRows(of frame: UnsafeMutablePointer<AVFrame>) -> [UInt8] {
    let row = 3 * width
    return [UInt8](unsafeUninitializedCapacity: row * height) { buffer, count in
      count = row * height
      guard let to = buffer.baseAddress, let from = frame.pointee.data.0 else {
        buffer.initialize(repeating: 0)
        return
      }
      av_image_copy_plane(to, Int32(row), from, frame.pointee.linesize.0, Int32(row), Int32(height))
    }
  }

  /// Counts the frames of a file by decoding it.
  ///
  /// - Parameter limit: The number of frames to stop at.
  /// - Throws: The errors of `init` and `next()`.
  public static func countFrames(path: String, upTo limit: Int = .max) throws -> Int {
    let reader = try VideoReader(path: path, deinterlaces: false, looksAtFrames: false)
    while reader.decoded < limit, try reader.nextDecoded() != nil {}
    return reader.decoded
  }
}
