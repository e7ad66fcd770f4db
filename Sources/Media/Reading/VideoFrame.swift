import CFFmpeg

/// A decoded frame that is converted to RGB only on request, so that skipped frames cost no
/// conversion.
///
/// It keeps the decoder's buffer in use, so keep only a few of them.
public final class VideoFrame {
  /// The index in decoding order, from 0.
  public let index: Int
  /// The presentation time in seconds from the first frame.
  public let seconds: Double
  /// The width of the upright frame, in pixels.
  public var width: Int { reader.width }
  public var height: Int { reader.height }

  let reference: FrameReference
  private let reader: VideoReader

  init(_ reference: FrameReference, index: Int, seconds: Double, reader: VideoReader) {
    self.reference = reference
    self.index = index
    self.seconds = seconds
    self.reader = reader
  }

  /// - Throws: `MediaError` for a layout or colors that can't be converted.
  public func rgb() throws -> RGBFrame { try reader.rgb(self) }

  /// The frame scaled and cropped, without an intermediate RGB frame of the full size.
  ///
  /// - Returns: [3, height, width] of the crop, from -1 to 1.
  /// - Throws: The errors of `rgb()`.
  public func filled(_ geometry: FrameResizer.Geometry) throws -> [Float] {
    try reader.filled(self, geometry)
  }
}

extension RGBFrame {
  /// The frame scaled and cropped.
  ///
  /// - Returns: [3, height, width] of the crop, from -1 to 1.
  /// - Throws: `MediaError` if memory runs out.
  public func filled(_ geometry: FrameResizer.Geometry) throws -> [Float] {
    let resizer = try FrameResizer(geometry, from: (width, height))
    return bytes.withUnsafeBufferPointer { bytes in
      if let start = bytes.baseAddress {
        resizer.add(start, stride: 3 * width, from: 0, count: height)
      }
      return resizer.finish()
    }
  }
}

/// A reference to a decoded frame, which keeps the decoder from reusing it.
package final class FrameReference {
  package let pointer: UnsafeMutablePointer<AVFrame>
  package let byteCount: Int

  package init(_ frame: UnsafeMutablePointer<AVFrame>, file: String) throws {
    guard let pointer = av_frame_clone(frame) else { throw outOfMemory(file: file) }
    self.pointer = pointer
    let format = AVPixelFormat(frame.pointee.format)
    byteCount = max(
      0, Int(av_image_get_buffer_size(format, frame.pointee.width, frame.pointee.height, 1)))
  }

  deinit {
    var pointer: UnsafeMutablePointer<AVFrame>? = pointer
    av_frame_free(&pointer)
  }
}
