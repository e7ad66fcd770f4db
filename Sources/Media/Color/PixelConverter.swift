import CFFmpeg

/// Converts decoded frames to another pixel layout of the same size by libswscale, and rotates them
/// upright.
///
/// Matrix and range come from `ColorDescription`. Colors that libswscale can't convert go through a
/// `ColorStage`, which also composites transparent pixels.
package final class PixelConverter {
  package enum Purpose {
    /// RGB from videos. For all common 8-bit layouts, which upstream trains on, it equals PyAV's
    /// `to_ndarray(format="rgb24")` and FFmpeg's command line byte for byte.
    case videoFrames
    /// RGB from images, close to the smooth chroma of libjpeg, which upstream's image reader uses.
    case images
    /// The encoder's layout. RGB is converted with `matrixOfRGB`; YUV keeps its own matrix and
    /// range.
    case encoding
  }

  private struct Source: Equatable {
    let width: Int32
    let height: Int32
    let format: AVPixelFormat
    let matrix: Int32
    let fullRange: Bool
    let siting: AVChromaLocation
  }

  private let file: String
  private let target: AVPixelFormat
  private let purpose: Purpose
  private var source: Source?
  private var scaler: OpaquePointer?
  private let output: UnsafeMutablePointer<AVFrame>
  private let turner: FrameTurner
  private var strip: [UInt8] = []
  /// The meaning of the frames' colors.
  package let color: ColorStage
  /// libswscale's number of the matrix that RGB is converted with for the encoder.
  var matrixOfRGB = SWS_CS_ITU709

  /// - Parameter color: The color conversion; nil converts like upstream's readers.
  package init(
    file: String, to target: AVPixelFormat, for purpose: Purpose, color: ColorStage? = nil
  ) throws {
    turner = try FrameTurner(file: file)
    guard let output = av_frame_alloc() else { throw outOfMemory(file: file) }
    self.file = file
    self.color = color ?? ColorStage(file: file, options: .upstream)
    self.target = target
    self.purpose = purpose
    self.output = output
  }

  deinit {
    sws_freeContext(scaler)
    var output: UnsafeMutablePointer<AVFrame>? = output
    av_frame_free(&output)
  }

  /// Returns the frame in the target's layout and upright, valid until the next call. A frame that
  /// needs no conversion is returned itself.
  ///
  /// - Parameter orientation: The orientation of the stored frame.
  package func convert(
    _ frame: UnsafeMutablePointer<AVFrame>, orientation: Orientation
  ) throws -> UnsafeMutablePointer<AVFrame> {
    var upright = frame
    let description = color.description(of: frame)
    if purpose != .encoding, !description.isPlain || Self.isDeepGray(frame),
      !color.options.matchesUpstream
    {
      try allocate(output, width: frame.pointee.width, height: frame.pointee.height)
      try color.convert(frame, description, to: output)
      upright = output
    } else if purpose == .images, let deep = Self.deepLayouts[frame.pointee.format] {
      try allocate(output, width: frame.pointee.width, height: frame.pointee.height)
      cffmpeg_upper_bytes(
        frame.pointee.data.0, Int(frame.pointee.linesize.0), output.pointee.data.0,
        Int(output.pointee.linesize.0), frame.pointee.width, frame.pointee.height, deep.channels,
        deep.upper)
      upright = output
    } else if frame.pointee.format != target.rawValue {
      let (width, height) = (frame.pointee.width, frame.pointee.height)
      let isWidened = purpose == .images && hasRoomForEvenSize(frame)
      if isWidened {
        frame.pointee.width = (width + 1) & ~1
        frame.pointee.height = (height + 1) & ~1
      }
      defer {
        (frame.pointee.width, frame.pointee.height) = (width, height)
        if isWidened { (output.pointee.width, output.pointee.height) = (width, height) }
      }
      try prepare(for: frame, description)
      try allocate(output, width: frame.pointee.width, height: frame.pointee.height)
      let rows = withPlanes(of: frame) { data, strides in
        withMutablePlanes(of: output) { targets, targetStrides in
          sws_scale(scaler, data, strides, 0, frame.pointee.height, targets, targetStrides)
        }
      }
      try check(
        rows, .decoding, file: file, "a frame cannot be converted",
        remedy: "Convert the file to H.264.")
      upright = output
    }
    if purpose != .encoding { try color.composite(frame, on: upright) }
    return try turner.turn(upright, orientation)
  }

  /// Whether a frame is gray with more than 8 bits, which libswscale rounds to a neighboring level.
  private static func isDeepGray(_ frame: UnsafePointer<AVFrame>) -> Bool {
    let format = AVPixelFormat(frame.pointee.format)
    guard isGray(format), let layout = av_pix_fmt_desc_get(format) else { return false }
    return layout.pointee.comp.0.depth > 8
  }

  /// Converts a frame to RGB a few rows at a time, so that they stay in the processor's cache.
  ///
  /// - Parameters:
  ///   - end: The end of the needed rows.
  ///   - body: Called with a strip's first pixel, its bytes per row, its first row and its number
  ///     of rows.
  /// - Returns: Whether the frame's layout and colors allow this; if not, nothing was done.
  func convertStrips(
    _ frame: UnsafeMutablePointer<AVFrame>, until end: Int,
    _ body: (UnsafePointer<UInt8>, Int, Int, Int) -> Void
  ) throws -> Bool {
    let description = color.description(of: frame)
    guard purpose == .videoFrames, target == AV_PIX_FMT_RGB24, description.isPlain,
      !Self.isDeepGray(frame),
      color.options.matchesUpstream
        || !AlphaCompositor.hasAlpha(AVPixelFormat(frame.pointee.format))
    else { return false }
    try prepare(for: frame, description)
    guard let source, isPlain(source) else { return false }
    let (rows, stride) = (16, (3 * Int(frame.pointee.width) + 63) / 64 * 64)
    if strip.count < rows * stride + 64 { strip = Array(repeating: 0, count: rows * stride + 64) }
    var status: Int32 = 0
    strip.withUnsafeMutableBufferPointer { strip in
      guard let start = strip.baseAddress else { return }
      for y in Swift.stride(from: 0, to: min(end, Int(frame.pointee.height)), by: rows) {
        let count = min(rows, Int(frame.pointee.height) - y)
        status = cffmpeg_scale_strip(scaler, frame, Int32(y), Int32(count), start, Int32(stride))
        guard status >= 0 else { return }
        body(start, stride, y, count)
      }
    }
    try check(
      status, .decoding, file: file, "a frame cannot be converted",
      remedy: "Convert the file to H.264.")
    return true
  }

  /// Whether a frame of an odd size with subsampled chroma has one more row and column in memory,
  /// because JPEG decoders fill whole blocks. If they are converted too, chroma stays in place;
  /// without them, libswscale stretches it slightly.
  private func hasRoomForEvenSize(_ frame: UnsafeMutablePointer<AVFrame>) -> Bool {
    let (width, height) = ((frame.pointee.width + 1) & ~1, (frame.pointee.height + 1) & ~1)
    guard (width, height) != (frame.pointee.width, frame.pointee.height),
      isSubsampled(AVPixelFormat(frame.pointee.format)), let luma = frame.pointee.data.0,
      let buffer = av_frame_get_plane_buffer(frame, 0), let start = buffer.pointee.data,
      luma >= start, frame.pointee.linesize.0 >= width
    else { return false }
    return luma - start + Int(frame.pointee.linesize.0) * Int(height) <= Int(buffer.pointee.size)
  }

  private func prepare(for frame: UnsafeMutablePointer<AVFrame>, _ color: ColorDescription) throws {
    let wanted = Source(
      width: frame.pointee.width, height: frame.pointee.height,
      format: AVPixelFormat(frame.pointee.format), matrix: color.swscaleMatrix,
      fullRange: color.isFullRange, siting: frame.pointee.chroma_location)
    if source == wanted, scaler != nil { return }
    sws_freeContext(scaler)
    scaler = sws_alloc_context()
    guard let scaler else { throw outOfMemory(file: file) }
    let context = UnsafeMutableRawPointer(scaler)
    for (name, value) in [
      ("srcw", wanted.width), ("srch", wanted.height), ("dstw", wanted.width),
      ("dsth", wanted.height),
      ("src_format", wanted.format.rawValue), ("dst_format", target.rawValue),
    ] { av_opt_set_int(context, name, Int64(value), 0) }
    applyFlags(to: context, for: wanted)
    let name = av_get_pix_fmt_name(wanted.format).map { String(cString: $0) } ?? "unknown"
    try check(
      sws_init_context(scaler, nil, nil), .decoding, file: file,
      "frames of \(wanted.width)x\(wanted.height) in the layout \(name) are unusable",
      remedy: "Convert the file to H.264 with yuv420p.")
    // libswscale numbers the matrices like the tags, and uses BT.601 for all that it does not know.
    let from = sws_getCoefficients(wanted.matrix)
    let fromRGB = purpose == .encoding && isRGB(wanted.format)
    sws_setColorspaceDetails(
      scaler, from, wanted.fullRange ? 1 : 0, fromRGB ? sws_getCoefficients(matrixOfRGB) : from,
      purpose == .encoding && wanted.fullRange && !fromRGB ? 1 : 0, 0, 1 << 16, 1 << 16)
    source = wanted
  }

  /// FFmpeg 8, which upstream's reader includes, interpolates subsampled chroma linearly at its
  /// position. FFmpeg 5 does so only with its bicubic filter, here shaped like a triangle. Both
  /// have special code for plain 8-bit layouts of an even height, with equal results.
  private func applyFlags(to context: UnsafeMutableRawPointer, for source: Source) {
    let flags: Int32
    switch purpose {
    case .videoFrames where !isSubsampled(source.format) || isPlain(source):
      flags = SWS_BILINEAR
    case .encoding:
      flags = SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP
    case .videoFrames, .images:
      flags =
        purpose == .images ? SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT : SWS_BICUBIC
      av_opt_set_double(context, "param0", 0.3, 0)
      av_opt_set_double(context, "param1", 0.1, 0)
      if source.siting == AVCHROMA_LOC_LEFT || source.siting == AVCHROMA_LOC_TOPLEFT {
        av_opt_set_int(context, "src_h_chr_pos", 0, 0)
        av_opt_set_int(context, "src_v_chr_pos", source.siting == AVCHROMA_LOC_LEFT ? 128 : 0, 0)
      }
    }
    av_opt_set_int(context, "sws_flags", Int64(flags), 0)
  }

  /// Packed RGB with 16 bits per channel. Upstream's image reader uses the upper 8 bits, but
  /// libswscale would convert through YUV. The values are the number of channels and the index of
  /// the upper byte.
  private static let deepLayouts: [Int32: (channels: Int32, upper: Int32)] = [
    AV_PIX_FMT_RGB48BE.rawValue: (3, 0), AV_PIX_FMT_RGB48LE.rawValue: (3, 1),
    AV_PIX_FMT_RGBA64BE.rawValue: (4, 0), AV_PIX_FMT_RGBA64LE.rawValue: (4, 1),
  ]

  private func isPlain(_ source: Source) -> Bool {
    source.height % 2 == 0 && Self.plainLayouts.contains(source.format)
  }

  private static let plainLayouts = [
    AV_PIX_FMT_YUV420P, AV_PIX_FMT_YUV422P, AV_PIX_FMT_YUVJ420P, AV_PIX_FMT_YUVJ422P,
    AV_PIX_FMT_YUVA420P,
  ]

  /// Allocates the frame in the target's layout at this size, with rows padded for vector
  /// instructions.
  private func allocate(_ frame: UnsafeMutablePointer<AVFrame>, width: Int32, height: Int32) throws
  {
    if frame.pointee.width == width, frame.pointee.height == height, frame.pointee.buf.0 != nil,
      av_frame_is_writable(frame) > 0
    {
      return
    }
    av_frame_unref(frame)
    frame.pointee.format = target.rawValue
    frame.pointee.width = width
    frame.pointee.height = height
    try check(
      av_frame_get_buffer(frame, 0), .decoding, file: file,
      "no room for a frame of \(width)x\(height)", remedy: "Use smaller images.")
  }
}

func isRGB(_ format: AVPixelFormat) -> Bool {
  guard let layout = av_pix_fmt_desc_get(format) else { return false }
  return layout.pointee.flags & UInt64(AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL) != 0
}

private func isSubsampled(_ format: AVPixelFormat) -> Bool {
  guard let layout = av_pix_fmt_desc_get(format) else { return false }
  return layout.pointee.log2_chroma_w > 0 || layout.pointee.log2_chroma_h > 0
}

/// Whether luma ranges from 0 to 255; the names of the `yuvj` layouts say so.
func isFullRange(_ frame: UnsafePointer<AVFrame>) -> Bool {
  switch AVPixelFormat(frame.pointee.format) {
  case AV_PIX_FMT_YUVJ420P, AV_PIX_FMT_YUVJ422P, AV_PIX_FMT_YUVJ444P, AV_PIX_FMT_YUVJ440P,
    AV_PIX_FMT_YUVJ411P:
    return true
  default:
    return frame.pointee.color_range == AVCOL_RANGE_JPEG
  }
}

/// Calls a closure with the plane pointers and strides of a frame as the arrays that libswscale
/// expects.
package func withPlanes<Result>(
  of frame: UnsafeMutablePointer<AVFrame>,
  _ body: (UnsafePointer<UnsafePointer<UInt8>?>, UnsafePointer<Int32>) throws -> Result
) rethrows -> Result {
  try withUnsafePointer(to: &frame.pointee.data) { data in
    try withUnsafePointer(to: &frame.pointee.linesize) { strides in
      try UnsafeRawPointer(data).withMemoryRebound(to: UnsafePointer<UInt8>?.self, capacity: 8) {
        data in
        try UnsafeRawPointer(strides).withMemoryRebound(to: Int32.self, capacity: 8) { strides in
          try body(data, strides)
        }
      }
    }
  }
}

package func withMutablePlanes<Result>(
  of frame: UnsafeMutablePointer<AVFrame>,
  _ body: (UnsafePointer<UnsafeMutablePointer<UInt8>?>, UnsafePointer<Int32>) throws -> Result
) rethrows -> Result {
  try withPlanes(of: frame) { data, strides in
    try UnsafeRawPointer(data).withMemoryRebound(to: UnsafeMutablePointer<UInt8>?.self, capacity: 8)
    { data in
      try body(data, strides)
    }
  }
}
