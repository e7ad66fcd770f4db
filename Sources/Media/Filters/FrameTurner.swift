import CFFmpeg

/// Rotates and mirrors decoded frames.
package final class FrameTurner {
  private let file: String
  private let output: UnsafeMutablePointer<AVFrame>

  init(file: String) throws {
    guard let output = av_frame_alloc() else { throw outOfMemory(file: file) }
    self.file = file
    self.output = output
  }

  deinit {
    var output: UnsafeMutablePointer<AVFrame>? = output
    av_frame_free(&output)
  }

  /// The frame upright, valid until the next call; the frame itself if it already is.
  ///
  /// - Throws: `MediaError` if memory runs out, or for a layout that can't be rotated this way,
  ///   such as 4:2:2 by a quarter turn.
  func turn(
    _ frame: UnsafeMutablePointer<AVFrame>, _ orientation: Orientation
  ) throws -> UnsafeMutablePointer<AVFrame> {
    guard orientation != .upright else { return frame }
    let (width, height) = (frame.pointee.width, frame.pointee.height)
    let format = AVPixelFormat(frame.pointee.format)
    guard let layout = av_pix_fmt_desc_get(format), Self.canTurn(layout, orientation) else {
      let name = av_get_pix_fmt_name(format).map { String(cString: $0) } ?? "unknown"
      throw MediaError(
        .decoding, file: file, "frames in the layout \(name) can't be rotated",
        remedy: "Convert the file to H.264 with yuv420p.")
    }
    av_frame_unref(output)
    output.pointee.format = frame.pointee.format
    output.pointee.width = orientation.swapsSides ? height : width
    output.pointee.height = orientation.swapsSides ? width : height
    try check(
      av_frame_get_buffer(output, 0), .decoding, file: file,
      "no room for a frame of \(width)x\(height)",
      remedy: "Use smaller images.")
    try check(
      av_frame_copy_props(output, frame), .system, file: file, "no room for a frame",
      remedy: "Free memory.")
    let sizes = Self.pixelSizes(layout)
    withPlanes(of: frame) { data, strides in
      withMutablePlanes(of: output) { targets, targetStrides in
        for plane in 0..<Int(av_pix_fmt_count_planes(format)) {
          guard let from = data[plane], let to = targets[plane] else { continue }
          let isChroma = plane == 1 || plane == 2
          cffmpeg_orient_plane(
            from, Int(strides[plane]), to, Int(targetStrides[plane]),
            isChroma ? -((-width) >> Int32(layout.pointee.log2_chroma_w)) : width,
            isChroma ? -((-height) >> Int32(layout.pointee.log2_chroma_h)) : height,
            Int32(sizes[plane]),
            Int32(orientation.xx), Int32(orientation.xy), Int32(orientation.yx),
            Int32(orientation.yy))
        }
      }
    }
    return output
  }

  /// Pixels must be whole bytes, and chroma must be subsampled the same way before and after a
  /// quarter turn.
  private static func canTurn(
    _ layout: UnsafePointer<AVPixFmtDescriptor>, _ orientation: Orientation
  ) -> Bool {
    let flags = UInt64(AV_PIX_FMT_FLAG_BITSTREAM | AV_PIX_FMT_FLAG_HWACCEL | AV_PIX_FMT_FLAG_PAL)
    guard layout.pointee.flags & flags == 0 else { return false }
    let isPacked = layout.pointee.flags & UInt64(AV_PIX_FMT_FLAG_PLANAR) == 0
    let (across, down) = (layout.pointee.log2_chroma_w, layout.pointee.log2_chroma_h)
    if isPacked, across > 0 || down > 0 { return false }
    return !orientation.swapsSides || across == down
  }

  /// The bytes per pixel of each plane.
  private static func pixelSizes(_ layout: UnsafePointer<AVPixFmtDescriptor>) -> [Int] {
    var sizes = [1, 1, 1, 1]
    let components = layout.pointee.comp
    for component in [components.0, components.1, components.2, components.3].prefix(
      Int(layout.pointee.nb_components))
    {
      sizes[Int(component.plane)] = Int(component.step)
    }
    return sizes
  }
}
