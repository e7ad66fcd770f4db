import CFFmpeg
import Foundation

/// Encodes single images.
enum ImageEncoder {
  enum Format {
    /// From RGB24.
    case png
    /// From YUVJ420P; the quality uses FFmpeg's scale from 1 (best) to 31.
    case jpeg(quality: Int)

    fileprivate var name: String { if case .png = self { "PNG" } else { "JPEG" } }
    fileprivate var codec: AVCodecID {
      if case .png = self { AV_CODEC_ID_PNG } else { AV_CODEC_ID_MJPEG }
    }
  }

  /// - Parameters:
  ///   - frame: A frame in the format's layout; its quality is set.
  ///   - file: The file name for messages.
  /// - Throws: `MediaError` for a size that the format doesn't support, or if FFmpeg lacks the
  ///   encoder.
  package static func encode(
    _ frame: UnsafeMutablePointer<AVFrame>, as format: Format, file: String
  ) throws
    -> Data
  {
    silenceFFmpeg()
    let (width, height) = (frame.pointee.width, frame.pointee.height)
    let what = "an image of \(width)x\(height) cannot be encoded as \(format.name)"
    let remedy = "Use a smaller image, or install an FFmpeg with the \(format.name) encoder."
    guard let encoder = avcodec_find_encoder(format.codec) else {
      throw MediaError(
        .system, file: file, "the installed FFmpeg cannot write \(format.name)",
        remedy: "Install one that was built with the encoder.")
    }
    var codec = avcodec_alloc_context3(encoder)
    var packet = av_packet_alloc()
    defer {
      avcodec_free_context(&codec)
      av_packet_free(&packet)
    }
    guard let codec, let packet else { throw outOfMemory(file: file) }
    codec.pointee.width = width
    codec.pointee.height = height
    codec.pointee.pix_fmt = AVPixelFormat(frame.pointee.format)
    codec.pointee.time_base = AVRational(num: 1, den: 1)
    if case .jpeg(let quality) = format {
      codec.pointee.color_range = AVCOL_RANGE_JPEG
      codec.pointee.flags |= AV_CODEC_FLAG_QSCALE
      codec.pointee.global_quality = Int32(min(31, max(1, quality))) * FF_QP2LAMBDA
      frame.pointee.quality = codec.pointee.global_quality
    }
    for step in [
      { avcodec_open2(codec, encoder, nil) }, { avcodec_send_frame(codec, frame) },
      { avcodec_send_frame(codec, nil) }, { avcodec_receive_packet(codec, packet) },
    ] { try check(step(), .writing, file: file, what, remedy: remedy) }
    guard let coded = packet.pointee.data else { throw outOfMemory(file: file) }
    return Data(bytes: coded, count: Int(packet.pointee.size))
  }

  /// Allocates a frame with a layout and size.
  static func frame(
    _ layout: AVPixelFormat, width: Int32, height: Int32, file: String
  ) throws -> UnsafeMutablePointer<AVFrame> {
    var frame = av_frame_alloc()
    guard let made = frame else { throw outOfMemory(file: file) }
    made.pointee.format = layout.rawValue
    made.pointee.width = width
    made.pointee.height = height
    do {
      try check(
        av_frame_get_buffer(made, 0), .system, file: file,
        "out of memory for an image of \(width)x\(height)",
        remedy: "Use smaller images.")
    } catch {
      av_frame_free(&frame)
      throw error
    }
    return made
  }
}
