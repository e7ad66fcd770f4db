import CFFmpeg

/// Converts frames to another layout with the same colors, by libswscale: packed to planar,
/// palettes to RGB.
final class LayoutConverter {
  private let file: String
  private var scaler: OpaquePointer?
  private var key: (AVPixelFormat, AVPixelFormat, Int32, Int32)?
  private let output: UnsafeMutablePointer<AVFrame>

  init(file: String) throws {
    guard let output = av_frame_alloc() else { throw outOfMemory(file: file) }
    self.file = file
    self.output = output
  }

  deinit {
    sws_freeContext(scaler)
    var output: UnsafeMutablePointer<AVFrame>? = output
    av_frame_free(&output)
  }

  /// - Returns: The frame in the new layout, valid until the next call.
  package func convert(
    _ frame: UnsafeMutablePointer<AVFrame>, to layout: AVPixelFormat, isFullRange: Bool
  ) throws -> UnsafeMutablePointer<AVFrame> {
    let format = AVPixelFormat(frame.pointee.format)
    let (width, height) = (frame.pointee.width, frame.pointee.height)
    let wanted = (format, layout, width, height)
    if key.map({ $0 != wanted }) ?? true {
      sws_freeContext(scaler)
      let flags = SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP
      scaler = sws_getContext(width, height, format, width, height, layout, flags, nil, nil, nil)
      key = wanted
      av_frame_unref(output)
      output.pointee.format = layout.rawValue
      (output.pointee.width, output.pointee.height) = (width, height)
      try check(
        av_frame_get_buffer(output, 0), .system, file: file,
        "no room for a frame of \(width)x\(height)",
        remedy: "Use smaller images.")
    }
    guard let scaler else {
      let name = av_get_pix_fmt_name(format).map { String(cString: $0) } ?? "unknown"
      throw MediaError(
        .decoding, file: file, "frames in the layout \(name) can't be converted",
        remedy: "Convert the file to H.264.")
    }
    let matrix = sws_getCoefficients(SWS_CS_DEFAULT)
    let range: Int32 = isFullRange ? 1 : 0
    sws_setColorspaceDetails(scaler, matrix, range, matrix, range, 0, 1 << 16, 1 << 16)
    let rows = withPlanes(of: frame) { data, strides in
      withMutablePlanes(of: output) { targets, targetStrides in
        sws_scale(scaler, data, strides, 0, height, targets, targetStrides)
      }
    }
    try check(
      rows, .decoding, file: file, "a frame cannot be converted",
      remedy: "Convert the file to H.264.")
    output.pointee.chroma_location = frame.pointee.chroma_location
    return output
  }
}
