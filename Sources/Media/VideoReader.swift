import CFFmpeg
import Foundation

/// One picture: rows from the top, pixels as red, green, blue, without padding.
public struct RGBFrame: Equatable, Sendable {
  /// `3 * width * height` bytes, [height, width, channel].
  public let bytes: [UInt8]
  public let width: Int
  public let height: Int
  /// Position in decoding order, from 0.
  public let index: Int
  /// Presentation time in seconds from the first frame.
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

/// How many frames a file holds, and how surely that is known before decoding.
public enum FrameCount: Equatable, Sendable {
  /// The container's own count. It can be wrong in a damaged file.
  case declared(Int)
  /// Length times frame rate, rounded: off by a few frames where the rate varies.
  case estimated(Int)
  case unknown

  public var value: Int? {
    switch self {
    case .declared(let count), .estimated(let count): count
    case .unknown: nil
    }
  }
}

/// Decodes the first video stream of a file, or a picture (one frame), in presentation order.
///
/// The bytes are those that the reference's reader gives (see `PixelConverter`). A damaged file gives the frames
/// that can be decoded; after the last one `ending` says whether all were there.
public final class VideoReader {
  public let path: String
  /// Size of the frames given out, in pixels.
  public let width: Int
  public let height: Int
  /// Clockwise quarter turns that the file asks for; already done unless the reader was told not to.
  public let quarterTurns: Int
  /// Average frames per second: the stream's average rate, else its base rate, else 24; 1 for a picture.
  public let frameRate: Rational
  /// Width of a pixel over its height, as frames are given out: 1 where the file doesn't say, or says what can't be
  /// (below 1/16 or above 16).
  public let pixelAspect: Rational
  public let frameCount: FrameCount
  /// Length in seconds; 0 for a picture, nil where the container does not say.
  public let duration: Double?
  public let hasAudio: Bool
  public let isImage: Bool
  /// Whether frames come at the fixed distance that `frameRate` says, as far as the container tells.
  let hasConstantRate: Bool

  let decoder: StreamDecoder
  private let converter: PixelConverter
  private let appliedTurns: Int
  private var decoded = 0
  /// Time of the first frame on the container's clock, which its sound shares; known once a frame was read.
  public private(set) var firstSeconds: Double?
  /// Whether a picture's left and right are to be exchanged before it is turned.
  private var isMirrored = false
  /// What a picture's colours are, if they are not sRGB's.
  private var profile: ColourProfile?
  /// Whether a picture has a colour profile that can't be converted (one with tables, or for CMYK), and is given out as if it
  /// were sRGB.
  public private(set) var hasUnusedProfile = false
  /// A picture's orientation is known only once it is decoded.
  private var pending: UnsafeMutablePointer<AVFrame>?

  /// - Parameter applyRotation: turn (pictures: mirror, too) the frames as the file's rotation metadata asks. The
  ///   reference does so for pictures and ignores it for videos.
  /// - Throws: `MediaError` if the file is missing, is no media, or holds no video that can be decoded.
  public init(path: String, applyRotation: Bool = true) throws {
    let decoder = try StreamDecoder(file: path, kind: AVMEDIA_TYPE_VIDEO)
    let stream = decoder.stream
    let name = decoder.format.pointee.iformat?.pointee.name.map { String(cString: $0) } ?? ""
    isImage = name == "image2" || name.hasSuffix("_pipe")

    var turns = cffmpeg_stream_quarter_turns(stream)
    if isImage {
      guard let picture = try decoder.next() else {
        throw MediaError(
          .decoding, file: path, "the picture cannot be decoded: it is damaged, or of an impossible size",
          remedy: "Save or copy the picture anew.")
      }
      pending = picture
      var mirrors: Int32 = 0
      let ownTurns = cffmpeg_frame_quarter_turns(picture, &mirrors)
      isMirrored = applyRotation && mirrors != 0
      if ownTurns != 0 || mirrors != 0 {
        turns = ownTurns
      } else if let orientation = PNGOrientation(path: path) {
        turns = Int32(orientation.turns)
        isMirrored = applyRotation && orientation.isMirrored
      }
      if let bytes = Self.profile(of: picture) {
        profile = ColourProfile(bytes)
        hasUnusedProfile = profile == nil
      }
    }
    let source = pending.map { ($0.pointee.width, $0.pointee.height) }
    let codedWidth = Int(source?.0 ?? decoder.codec.pointee.width)
    let codedHeight = Int(source?.1 ?? decoder.codec.pointee.height)
    guard codedWidth > 0, codedHeight > 0 else {
      throw MediaError(
        .decoding, file: path, "no frame size can be found", remedy: "Copy or convert the file anew.")
    }
    quarterTurns = Int(turns)
    appliedTurns = applyRotation ? Int(turns) : 0
    width = appliedTurns % 2 == 1 ? codedHeight : codedWidth
    height = appliedTurns % 2 == 1 ? codedWidth : codedHeight

    pixelAspect = Self.pixelAspect(
      av_guess_sample_aspect_ratio(decoder.format, decoder.stream, pending), turns: appliedTurns)

    let average = Rational(stream.pointee.avg_frame_rate)
    let base = Rational(stream.pointee.r_frame_rate)
    frameRate = isImage ? Rational(1) : average ?? base ?? Rational(24)
    hasConstantRate =
      average == nil || base == nil
      || av_cmp_q(stream.pointee.avg_frame_rate, stream.pointee.r_frame_rate) == 0
    duration = isImage ? 0 : decoder.duration
    if isImage {
      frameCount = .declared(1)
    } else if stream.pointee.nb_frames > 0 {
      frameCount = .declared(Int(stream.pointee.nb_frames))
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
    converter = try PixelConverter(file: path, to: AV_PIX_FMT_RGB24, for: isImage ? .pictures : .videoFrames)
  }

  private static func pixelAspect(_ told: AVRational, turns: Int) -> Rational {
    guard let aspect = Rational(told), (1.0 / 16...16).contains(aspect.value) else { return Rational(1) }
    return turns % 2 == 1 ? Rational(aspect.denominator, aspect.numerator) : aspect
  }

  /// The next frame, or nil at the end; then `ending` tells whether the file was whole.
  ///
  /// - Throws: `MediaError` if not one frame can be decoded, if the frame size changes on the way, or if reading
  ///   fails.
  public func next() throws -> RGBFrame? {
    guard let (frame, seconds) = try nextDecoded() else { return nil }
    let upright = try converter.convert(frame, quarterTurns: appliedTurns, isMirrored: isMirrored)
    let picture = RGBFrame(
      bytes: packedRows(of: upright), width: width, height: height, index: decoded - 1,
      seconds: seconds - (firstSeconds ?? 0))
    return profile?.converted(picture) ?? picture
  }

  /// Whether everything that the container announces has been decoded; known once `next()` gave nil.
  public var ending: Ending { decoder.ending(decoded: decoded) }

  /// The next frame in the stream's own layout and its time on the container's clock in seconds.
  func nextDecoded() throws -> (UnsafeMutablePointer<AVFrame>, Double)? {
    let waiting = pending
    pending = nil
    guard let frame = try waiting ?? decoder.next() else {
      if decoded == 0 {
        var what = "not one frame can be decoded"
        if case .damaged(let reason) = ending { what += " (\(reason))" }
        throw MediaError(.decoding, file: path, what, remedy: "Copy or convert the file anew.")
      }
      return nil
    }
    let (wide, high) = (Int(frame.pointee.width), Int(frame.pointee.height))
    guard appliedTurns % 2 == 1 ? (wide, high) == (height, width) : (wide, high) == (width, height) else {
      throw MediaError(
        .decoding, file: path, "frame \(decoded) is \(wide)x\(high), unlike those before it",
        remedy: "Cut the file where its size changes, or scale it to one size.")
    }
    let counted = (firstSeconds ?? 0) + Double(decoded) / frameRate.value
    // Times beyond 30 years are damage, and too large to count samples by.
    let stamped = decoder.seconds(of: frame).flatMap { abs($0) < 1e9 ? $0 : nil }
    let seconds = stamped ?? min(counted, 1e9)
    if firstSeconds == nil { firstSeconds = seconds }
    decoded += 1
    return (frame, seconds)
  }

  /// Unit of the stream's time stamps, or a fine one where theirs can't be written again.
  var timeBase: Rational {
    let own = Rational(decoder.stream.pointee.time_base)
    return own.flatMap { $0.numerator < 10_000_000 && $0.denominator < 10_000_000 ? $0 : nil }
      ?? Rational(1, 90_000)
  }

  /// Turns that `nextDecoded()` leaves to be done.
  var remainingTurns: Int { appliedTurns }

  private static func profile(of picture: UnsafePointer<AVFrame>) -> [UInt8]? {
    guard let data = av_frame_get_side_data(picture, AV_FRAME_DATA_ICC_PROFILE), let bytes = data.pointee.data
    else { return nil }
    return Array(UnsafeBufferPointer(start: bytes, count: Int(data.pointee.size)))
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

  /// Counts the frames of a file by decoding it whole.
  ///
  /// - Throws: as `init` and `next()`.
  public static func countFrames(path: String) throws -> Int {
    let reader = try VideoReader(path: path)
    while try reader.nextDecoded() != nil {}
    return reader.decoded
  }
}
