import CFFmpeg

/// Passes on decoded frames, and turns each interlaced one into a single image. Progressive frames
/// are unchanged.
///
/// The result equals FFmpeg's `bwdif=mode=send_frame:deint=interlaced`: the image shows the moment
/// of the first field, and the number of frames doesn't change.
final class Deinterlacer {
  private let decoder: StreamDecoder
  private let isOn: Bool
  private let output: UnsafeMutablePointer<AVFrame>
  private var previous: FrameReference?
  private var waiting: FrameReference?
  /// Whether the container marks frames as interlaced, and the first field, for codecs whose frames
  /// can't say so.
  private let isMarked: Bool
  private let isTopFirst: Bool
  /// Whether FFmpeg returns each field as a frame of half the height, as for HEVC at the field
  /// rate.
  private let hasFieldRate: Bool
  /// Whether frames were deinterlaced.
  private(set) var isUsed = false
  /// The reason why interlaced frames were left unchanged.
  private(set) var obstacle: String?

  init(_ decoder: StreamDecoder, isOn: Bool) throws {
    guard let output = av_frame_alloc() else { throw outOfMemory(file: decoder.file) }
    self.decoder = decoder
    self.isOn = isOn
    self.output = output
    let parameters = decoder.stream.pointee.codecpar
    let order = parameters?.pointee.field_order ?? AV_FIELD_UNKNOWN
    let codec = avcodec_descriptor_get(parameters?.pointee.codec_id ?? AV_CODEC_ID_NONE)
    let isIntra = (codec?.pointee.props ?? 0) & AV_CODEC_PROP_INTRA_ONLY != 0
    isMarked = isIntra && [AV_FIELD_TT, AV_FIELD_BB, AV_FIELD_TB, AV_FIELD_BT].contains(order)
    let rate = Rational(decoder.stream.pointee.avg_frame_rate)?.value ?? 0
    hasFieldRate = parameters?.pointee.codec_id == AV_CODEC_ID_HEVC && rate > 40
    // The second letter is the field that is shown first.
    isTopFirst = order == AV_FIELD_TT || order == AV_FIELD_BT
  }

  deinit {
    var output: UnsafeMutablePointer<AVFrame>? = output
    av_frame_free(&output)
  }

  /// The next frame, valid until the next call; nil at the end.
  ///
  /// - Throws: The errors of `StreamDecoder.next()`.
  package func next() throws -> UnsafeMutablePointer<AVFrame>? {
    guard isOn else { return try decoder.next() }
    guard let current = try waiting ?? read() else { return nil }
    waiting = nil
    defer { previous = current }
    guard isInterlaced(current.pointer) else { return current.pointer }
    waiting = try read()
    return try filter(current.pointer)
  }

  private func read() throws -> FrameReference? {
    try decoder.next().map { try FrameReference($0, file: decoder.file) }
  }

  private func isInterlaced(_ frame: UnsafePointer<AVFrame>) -> Bool {
    guard isMarked || cffmpeg_is_interlaced(frame) != 0 else { return false }
    if hasFieldRate {
      obstacle = "its fields are coded as frames of half the height"
      return false
    }
    return true
  }

  private func filter(_ current: UnsafeMutablePointer<AVFrame>) throws -> UnsafeMutablePointer<
    AVFrame
  > {
    let format = AVPixelFormat(current.pointee.format)
    guard let layout = av_pix_fmt_desc_get(format), let bytes = Self.sampleBytes(layout) else {
      let name = av_get_pix_fmt_name(format).map { String(cString: $0) } ?? "unknown"
      obstacle = "frames in the layout \(name) can't be deinterlaced"
      return current
    }
    av_frame_unref(output)
    output.pointee.format = current.pointee.format
    output.pointee.width = current.pointee.width
    output.pointee.height = current.pointee.height
    try check(
      av_frame_get_buffer(output, 0), .decoding, file: decoder.file, "no room for a frame",
      remedy: "Use smaller frames.")
    try check(
      av_frame_copy_props(output, current), .system, file: decoder.file, "no room for a frame",
      remedy: "Free memory.")
    let isTop =
      cffmpeg_is_interlaced(current) != 0 ? cffmpeg_is_top_first(current) != 0 : isTopFirst
    let (before, after) = (
      neighbor(previous, of: current) ?? current, neighbor(waiting, of: current) ?? current
    )
    // The missing rows can't be known without a previous frame.
    let isAlone = before == current
    let maxValue = bytes == 1 ? 255 : Int32(1) << layout.pointee.comp.0.depth - 1
    let height = current.pointee.height
    withPlanes(of: before) { previous, _ in
      withPlanes(of: current) { planes, strides in
        withPlanes(of: after) { next, _ in
          withMutablePlanes(of: output) { targets, targetStrides in
            for plane in 0..<Int(av_pix_fmt_count_planes(format)) {
              guard let a = previous[plane], let b = planes[plane], let c = next[plane],
                let target = targets[plane]
              else { continue }
              let isChroma = plane == 1 || plane == 2
              let rows = isChroma ? -((-height) >> Int32(layout.pointee.log2_chroma_h)) : height
              let width = av_image_get_linesize(format, current.pointee.width, Int32(plane))
              let (stride, targetStride) = (
                Int(strides[plane]) / bytes, Int(targetStrides[plane]) / bytes
              )
              let (top, alone): (Int32, Int32) = (isTop ? 1 : 0, isAlone ? 1 : 0)
              if bytes == 1 {
                cffmpeg_deinterlace_bytes(
                  a, b, c, stride, target, targetStride, width, rows, top, alone, maxValue)
              } else {
                func words(_ pointer: UnsafePointer<UInt8>) -> UnsafePointer<UInt16> {
                  UnsafeRawPointer(pointer).assumingMemoryBound(to: UInt16.self)
                }
                cffmpeg_deinterlace_words(
                  words(a), words(b), words(c), stride,
                  UnsafeMutableRawPointer(target).assumingMemoryBound(to: UInt16.self),
                  targetStride,
                  width / 2, rows, top, alone, maxValue)
              }
            }
          }
        }
      }
    }
    cffmpeg_set_progressive(output)
    isUsed = true
    return output
  }

  /// An adjacent frame, if it can be compared with this one.
  private func neighbor(
    _ reference: FrameReference?, of frame: UnsafePointer<AVFrame>
  ) -> UnsafeMutablePointer<AVFrame>? {
    guard let other = reference?.pointer, other.pointee.width == frame.pointee.width,
      other.pointee.height == frame.pointee.height, other.pointee.format == frame.pointee.format
    else { return nil }
    let isAlike = withUnsafeBytes(of: other.pointee.linesize) { a in
      withUnsafeBytes(of: frame.pointee.linesize) { a.elementsEqual($0) }
    }
    return isAlike ? other : nil
  }

  /// The bytes per sample, 1 or 2; nil for layouts whose rows don't consist of such samples.
  private static func sampleBytes(_ layout: UnsafePointer<AVPixFmtDescriptor>) -> Int? {
    let flags = UInt64(
      AV_PIX_FMT_FLAG_BITSTREAM | AV_PIX_FMT_FLAG_HWACCEL | AV_PIX_FMT_FLAG_PAL | AV_PIX_FMT_FLAG_BE
        | AV_PIX_FMT_FLAG_FLOAT)
    let component = layout.pointee.comp.0
    guard layout.pointee.flags & flags == 0,
      component.shift == 0 || component.depth + component.shift == 16
    else { return nil }
    return component.depth == 8 ? 1 : (9...16).contains(component.depth) ? 2 : nil
  }
}
