import CFFmpeg
import CPixels

/// Composites transparent pixels on a background, in code values, like viewers do.
package final class AlphaCompositor {
  private let file: String
  private var row: [UInt16] = []
  private var wide: [UInt32] = []

  init(file: String) { self.file = file }

  package static func hasAlpha(_ format: AVPixelFormat) -> Bool {
    guard let layout = av_pix_fmt_desc_get(format) else { return false }
    return layout.pointee.flags & UInt64(AV_PIX_FMT_FLAG_ALPHA | AV_PIX_FMT_FLAG_PAL) != 0
  }

  /// - Parameters:
  ///   - target: The frame as RGB24, of the same size.
  ///   - isPremultiplied: Whether colors are already multiplied by alpha.
  /// - Returns: Whether any pixel is not opaque.
  func composite(
    _ frame: UnsafeMutablePointer<AVFrame>, on target: UnsafeMutablePointer<AVFrame>,
    _ background: RGBColor,
    isPremultiplied: Bool
  ) throws -> Bool {
    guard let layout = av_pix_fmt_desc_get(AVPixelFormat(frame.pointee.format)),
      let output = target.pointee.data.0
    else { throw outOfMemory(file: file) }
    let (width, height) = (Int(frame.pointee.width), Int(frame.pointee.height))
    if row.count != width { row = Array(repeating: 0, count: width) }
    let hasPalette = layout.pointee.flags & UInt64(AV_PIX_FMT_FLAG_PAL) != 0
    let palette = hasPalette ? paletteAlpha(of: frame) : []
    if hasPalette, palette.allSatisfy({ $0 == 255 }) { return false }
    let largest = hasPalette ? 255 : largestAlpha(layout.pointee)
    let color = [background.red, background.green, background.blue]
    var isTransparent = false
    for y in 0..<height {
      if hasPalette {
        guard let indices = frame.pointee.data.0.map({ $0 + y * Int(frame.pointee.linesize.0) })
        else {
          break
        }
        for x in 0..<width { row[x] = palette[Int(indices[x])] }
      } else {
        readRow(y, of: frame, layout)
      }
      let found = cpixels_composite(
        output + y * Int(target.pointee.linesize.0), row, Int32(width), Int32(largest),
        isPremultiplied ? 1 : 0, color)
      if found != 0 { isTransparent = true }
    }
    return isTransparent
  }

  /// The alpha of each of a palette's 256 colors.
  private func paletteAlpha(of frame: UnsafeMutablePointer<AVFrame>) -> [UInt16] {
    guard let colors = frame.pointee.data.1 else { return Array(repeating: 255, count: 256) }
    return colors.withMemoryRebound(to: UInt32.self, capacity: 256) { colors in
      (0..<256).map { UInt16(colors[$0] >> 24) }
    }
  }

  private func largestAlpha(_ layout: AVPixFmtDescriptor) -> Int {
    let depth = Self.alpha(of: layout).depth
    return depth > 16 ? 65535 : 1 << depth - 1
  }

  private static func alpha(of layout: AVPixFmtDescriptor) -> AVComponentDescriptor {
    layout.nb_components == 2 ? layout.comp.1 : layout.comp.3
  }

  private func readRow(
    _ y: Int, of frame: UnsafeMutablePointer<AVFrame>, _ layout: UnsafePointer<AVPixFmtDescriptor>
  ) {
    let component = Int32(layout.pointee.nb_components) - 1
    let width = frame.pointee.width
    withPlanes(of: frame) { planes, strides in
      if Self.alpha(of: layout.pointee).depth <= 16 {
        row.withUnsafeMutableBytes { row in
          cffmpeg_read_line(
            row.baseAddress, planes, strides, layout, 0, Int32(y), component, width, 2)
        }
      } else {
        // Float samples.
        if wide.count != Int(width) { wide = Array(repeating: 0, count: Int(width)) }
        wide.withUnsafeMutableBytes { wide in
          cffmpeg_read_line(
            wide.baseAddress, planes, strides, layout, 0, Int32(y), component, width, 4)
        }
        for x in 0..<Int(width) {
          let value = Float(bitPattern: wide[x])
          row[x] = value >= 1 ? 65535 : value > 0 ? UInt16(value * 65535) : 0
        }
      }
    }
  }
}
