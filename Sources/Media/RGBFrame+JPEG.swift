import CFFmpeg
import Foundation

extension RGBFrame {
  /// A small JPEG of the picture, its aspect kept; nothing is enlarged.
  ///
  /// - Parameters:
  ///   - side: pixels of the longer side, at most; each side is rounded to whole pixels, at least 1.
  ///   - quality: FFmpeg's quantiser scale, 2 (best) to 31.
  /// - Throws: `MediaError` if this FFmpeg has no JPEG encoder.
  public func thumbnail(side: Int, quality: Int = 6) throws -> Data {
    let scale = min(1, Double(side) / Double(max(width, height)))
    let size = (
      width: max(1, Int((Double(width) * scale).rounded())),
      height: max(1, Int((Double(height) * scale).rounded()))
    )
    silenceFFmpeg()
    let remedy = "Install an FFmpeg with the MJPEG encoder."
    guard let encoder = avcodec_find_encoder(AV_CODEC_ID_MJPEG) else {
      throw MediaError(.system, file: "", "the installed FFmpeg cannot write JPEG", remedy: remedy)
    }
    var codec = avcodec_alloc_context3(encoder)
    var frame = av_frame_alloc()
    var packet = av_packet_alloc()
    defer {
      avcodec_free_context(&codec)
      av_frame_free(&frame)
      av_packet_free(&packet)
    }
    guard let codec, let frame, let packet else { throw outOfMemory(file: "") }
    codec.pointee.width = Int32(size.width)
    codec.pointee.height = Int32(size.height)
    codec.pointee.pix_fmt = AV_PIX_FMT_YUVJ420P
    codec.pointee.color_range = AVCOL_RANGE_JPEG
    codec.pointee.time_base = AVRational(num: 1, den: 1)
    codec.pointee.flags |= 1 << 1  // AV_CODEC_FLAG_QSCALE
    codec.pointee.global_quality = Int32(min(31, max(2, quality))) * 118  // FF_QP2LAMBDA
    let what = "a picture of \(size.width)x\(size.height) cannot be coded as JPEG"
    try check(avcodec_open2(codec, encoder, nil), .system, file: "", what, remedy: remedy)
    frame.pointee.format = AV_PIX_FMT_YUVJ420P.rawValue
    frame.pointee.width = Int32(size.width)
    frame.pointee.height = Int32(size.height)
    frame.pointee.quality = codec.pointee.global_quality
    try check(av_frame_get_buffer(frame, 0), .system, file: "", what, remedy: remedy)
    try shrink(into: frame)
    try check(avcodec_send_frame(codec, frame), .system, file: "", what, remedy: remedy)
    try check(avcodec_send_frame(codec, nil), .system, file: "", what, remedy: remedy)
    try check(avcodec_receive_packet(codec, packet), .system, file: "", what, remedy: remedy)
    guard let coded = packet.pointee.data else { throw outOfMemory(file: "") }
    return Data(bytes: coded, count: Int(packet.pointee.size))
  }

  /// Scales by areas and converts to JPEG's colours: BT.601, full range.
  private func shrink(into frame: UnsafeMutablePointer<AVFrame>) throws {
    guard
      let scaler = sws_getContext(
        Int32(width), Int32(height), AV_PIX_FMT_RGB24, frame.pointee.width, frame.pointee.height,
        AV_PIX_FMT_YUVJ420P, SWS_AREA | SWS_ACCURATE_RND, nil, nil, nil)
    else { throw outOfMemory(file: "") }
    defer { sws_freeContext(scaler) }
    let table = sws_getCoefficients(SWS_CS_ITU601)
    sws_setColorspaceDetails(scaler, table, 1, table, 1, 0, 1 << 16, 1 << 16)
    let rows = bytes.withUnsafeBufferPointer { bytes in
      withMutablePlanes(of: frame) { targets, strides in
        var source: UnsafePointer<UInt8>? = bytes.baseAddress
        var stride = Int32(3 * width)
        return sws_scale(scaler, &source, &stride, 0, Int32(height), targets, strides)
      }
    }
    try check(rows, .system, file: "", "a picture cannot be scaled", remedy: "Use another picture.")
  }
}
