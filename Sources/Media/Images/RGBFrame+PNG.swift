import CFFmpeg
import Foundation

extension RGBFrame {
  /// Writes the image as a lossless PNG, atomically.
  ///
  /// - Throws: `MediaError` if the file cannot be written.
  public func writePNG(to path: String) throws {
    var frame: UnsafeMutablePointer<AVFrame>? = try ImageEncoder.frame(
      AV_PIX_FMT_RGB24, width: Int32(width), height: Int32(height), file: path)
    defer { av_frame_free(&frame) }
    guard let frame else { throw outOfMemory(file: path) }
    bytes.withUnsafeBufferPointer { bytes in
      av_image_copy_plane(
        frame.pointee.data.0, frame.pointee.linesize.0, bytes.baseAddress, Int32(3 * width),
        Int32(3 * width), Int32(height))
    }
    try AtomicFile.write(ImageEncoder.encode(frame, as: .png, file: path), to: path)
  }
}
