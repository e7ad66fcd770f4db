import CFFmpeg
import Foundation

extension RGBFrame {
  /// Writes the picture as a PNG, exactly and atomically.
  ///
  /// - Throws: `MediaError` if the file cannot be written.
  public func writePNG(to path: String) throws {
    try AtomicFile.write(try pngData(file: path), to: path)
  }

  private func pngData(file: String) throws -> Data {
    let remedy = "Install an FFmpeg with the PNG encoder, or use a smaller picture."
    guard let encoder = avcodec_find_encoder(AV_CODEC_ID_PNG) else {
      throw MediaError(.system, file: file, "the installed FFmpeg cannot write PNG", remedy: remedy)
    }
    var codec = avcodec_alloc_context3(encoder)
    var frame = av_frame_alloc()
    var packet = av_packet_alloc()
    defer {
      avcodec_free_context(&codec)
      av_frame_free(&frame)
      av_packet_free(&packet)
    }
    guard let codec, let frame, let packet else { throw outOfMemory(file: file) }
    codec.pointee.width = Int32(width)
    codec.pointee.height = Int32(height)
    codec.pointee.pix_fmt = AV_PIX_FMT_RGB24
    codec.pointee.time_base = AVRational(num: 1, den: 1)
    try check(
      avcodec_open2(codec, encoder, nil), .writing, file: file, "\(width)x\(height) is no size for a PNG",
      remedy: remedy)
    frame.pointee.format = AV_PIX_FMT_RGB24.rawValue
    frame.pointee.width = Int32(width)
    frame.pointee.height = Int32(height)
    try check(av_frame_get_buffer(frame, 0), .writing, file: file, "no room for a frame", remedy: remedy)
    bytes.withUnsafeBufferPointer { bytes in
      av_image_copy_plane(
        frame.pointee.data.0, frame.pointee.linesize.0, bytes.baseAddress, Int32(3 * width),
        Int32(3 * width), Int32(height))
    }
    let what = "the picture cannot be coded"
    try check(avcodec_send_frame(codec, frame), .writing, file: file, what, remedy: remedy)
    try check(avcodec_send_frame(codec, nil), .writing, file: file, what, remedy: remedy)
    try check(avcodec_receive_packet(codec, packet), .writing, file: file, what, remedy: remedy)
    guard let coded = packet.pointee.data else { throw outOfMemory(file: file) }
    return Data(bytes: coded, count: Int(packet.pointee.size))
  }
}
