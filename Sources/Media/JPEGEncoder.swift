import CFFmpeg
import Foundation

/// Codes pictures as JPEG.
enum JPEGEncoder {
  /// FFmpeg's scale from 1, the finest, to 31.
  private static let quality = 2 * FF_QP2LAMBDA

  /// - Parameters:
  ///   - rgb: a picture in the layout RGB24.
  ///   - file: where it comes from, for messages.
  static func encode(rgb: UnsafeMutablePointer<AVFrame>, file: String) throws -> Data {
    let (width, height) = (rgb.pointee.width, rgb.pointee.height)
    let what = "a picture of \(width)x\(height) cannot be coded as JPEG"
    let remedy = "Leave out the pictures, or install an FFmpeg with the MJPEG encoder."
    guard let encoder = avcodec_find_encoder(AV_CODEC_ID_MJPEG) else {
      throw MediaError(.system, file: file, "the installed FFmpeg cannot write JPEG", remedy: remedy)
    }
    var codec = avcodec_alloc_context3(encoder)
    var packet = av_packet_alloc()
    var frame = av_frame_alloc()
    // JPEG's colours: BT.601, full range, as swscale takes them for this layout.
    let scaler = sws_getContext(
      width, height, AV_PIX_FMT_RGB24, width, height, AV_PIX_FMT_YUVJ420P, SWS_BICUBIC | SWS_ACCURATE_RND,
      nil,
      nil, nil)
    defer {
      avcodec_free_context(&codec)
      av_packet_free(&packet)
      av_frame_free(&frame)
      sws_freeContext(scaler)
    }
    guard let codec, let packet, let frame, let scaler else { throw outOfMemory(file: file) }
    frame.pointee.format = AV_PIX_FMT_YUVJ420P.rawValue
    frame.pointee.width = width
    frame.pointee.height = height
    frame.pointee.pts = 0
    frame.pointee.quality = quality
    try check(
      av_frame_get_buffer(frame, 0), .system, file: file, "no room for a picture", remedy: "Free memory.")
    let rows = withPlanes(of: rgb) { data, strides in
      withMutablePlanes(of: frame) { targets, targetStrides in
        sws_scale(scaler, data, strides, 0, height, targets, targetStrides)
      }
    }
    try check(rows, .writing, file: file, what, remedy: remedy)
    codec.pointee.width = width
    codec.pointee.height = height
    codec.pointee.pix_fmt = AV_PIX_FMT_YUVJ420P
    codec.pointee.color_range = AVCOL_RANGE_JPEG
    codec.pointee.time_base = AVRational(num: 1, den: 25)
    codec.pointee.flags |= AV_CODEC_FLAG_QSCALE
    codec.pointee.global_quality = quality
    try check(avcodec_open2(codec, encoder, nil), .writing, file: file, what, remedy: remedy)
    try check(avcodec_send_frame(codec, frame), .writing, file: file, what, remedy: remedy)
    try check(avcodec_send_frame(codec, nil), .writing, file: file, what, remedy: remedy)
    try check(avcodec_receive_packet(codec, packet), .writing, file: file, what, remedy: remedy)
    guard let coded = packet.pointee.data else { throw outOfMemory(file: file) }
    return Data(bytes: coded, count: Int(packet.pointee.size))
  }
}
