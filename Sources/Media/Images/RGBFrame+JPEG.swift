import CFFmpeg
import Foundation

extension RGBFrame {
  /// A small JPEG of the image with its aspect ratio; images are never enlarged.
  ///
  /// - Parameters:
  ///   - side: The maximum length of the longer side in pixels; each side is rounded to whole
  ///     pixels, at least 1.
  ///   - quality: FFmpeg's quantizer scale, 2 (best) to 31.
  /// - Throws: `MediaError` if this FFmpeg has no JPEG encoder.
  public func thumbnail(side: Int, quality: Int = 6) throws -> Data {
    let scale = min(1, Double(side) / Double(max(width, height)))
    return try bytes.withUnsafeBufferPointer { bytes in
      var source: UnsafePointer<UInt8>? = bytes.baseAddress
      var stride = Int32(3 * width)
      return try JPEGImage.encode(
        &source, &stride, (Int32(width), Int32(height)),
        size: (
          max(1, Int32((Double(width) * scale).rounded())),
          max(1, Int32((Double(height) * scale).rounded()))
        ), quality: quality, file: "")
    }
  }
}

/// RGB as JPEG: BT.601, full range, half color resolution.
package enum JPEGImage {
  /// - Parameters:
  ///   - rgb: A frame in the layout RGB24.
  ///   - file: The file name for messages.
  package static func encode(rgb: UnsafeMutablePointer<AVFrame>, file: String) throws -> Data {
    let size = (rgb.pointee.width, rgb.pointee.height)
    return try withPlanes(of: rgb) { data, strides in
      try encode(data, strides, size, size: size, quality: 2, file: file)
    }
  }

  /// A small JPEG with the same aspect ratio; images are never enlarged.
  ///
  /// - Parameter side: The maximum length of the longer side in pixels.
  package static func thumbnail(rgb: UnsafeMutablePointer<AVFrame>, side: Int, file: String) throws
    -> Data
  {
    let size = (width: rgb.pointee.width, height: rgb.pointee.height)
    let scale = min(1, Double(side) / Double(max(size.width, size.height)))
    func scaled(_ length: Int32) -> Int32 { max(1, Int32((Double(length) * scale).rounded())) }
    return try withPlanes(of: rgb) { data, strides in
      try encode(
        data, strides, size, size: (scaled(size.width), scaled(size.height)), quality: 6, file: file
      )
    }
  }

  /// Encodes the frame, scaled with the area filter if the size changes.
  fileprivate static func encode(
    _ planes: UnsafePointer<UnsafePointer<UInt8>?>, _ strides: UnsafePointer<Int32>,
    _ source: (width: Int32, height: Int32), size: (width: Int32, height: Int32), quality: Int,
    file: String
  ) throws -> Data {
    var frame: UnsafeMutablePointer<AVFrame>? = try ImageEncoder.frame(
      AV_PIX_FMT_YUVJ420P, width: size.width, height: size.height, file: file)
    defer { av_frame_free(&frame) }
    silenceFFmpeg()
    let filter = source == size ? SWS_BICUBIC : SWS_AREA
    guard let frame,
      let scaler = sws_getContext(
        source.width, source.height, AV_PIX_FMT_RGB24, size.width, size.height, AV_PIX_FMT_YUVJ420P,
        filter | SWS_ACCURATE_RND, nil, nil, nil)
    else { throw outOfMemory(file: file) }
    defer { sws_freeContext(scaler) }
    let matrix = sws_getCoefficients(SWS_CS_ITU601)
    sws_setColorspaceDetails(scaler, matrix, 1, matrix, 1, 0, 1 << 16, 1 << 16)
    let rows = withMutablePlanes(of: frame) { targets, targetStrides in
      sws_scale(scaler, planes, strides, 0, source.height, targets, targetStrides)
    }
    try check(
      rows, .system, file: file, "an image cannot be scaled", remedy: "Use another image.")
    return try ImageEncoder.encode(frame, as: .jpeg(quality: quality), file: file)
  }
}
