import CFFmpeg
import CPixels

/// Converts frames to 8-bit RGB if libswscale can't: HDR, wide gamut, other transfer functions,
/// rare matrices.
///
/// Each pixel is computed at the frame's own size: from samples to R'G'B' (chroma is interpolated
/// linearly), by a table to light, by the tone curve and the matrix of the primaries to SDR light,
/// and by a table to code values. Tables indexed by light have 512 entries per octave, so that
/// their error stays below a tenth of a level.
final class ColorConverter {
  private let tables: ColorTables
  private let file: String
  private var scratch: [Float] = []

  init(_ description: ColorDescription, isImage: Bool, file: String) throws {
    self.file = file
    tables = try ColorTables(description, isImage: isImage, file: file)
  }

  /// - Parameters:
  ///   - frame: A frame in a layout that `reads` accepts.
  ///   - target: RGB24 of the frame's size.
  package func convert(
    _ frame: UnsafeMutablePointer<AVFrame>, to target: UnsafeMutablePointer<AVFrame>
  )
    throws
  {
    guard let layout = av_pix_fmt_desc_get(AVPixelFormat(frame.pointee.format)),
      let output = target.pointee.data.0
    else { throw outOfMemory(file: file) }
    let (width, height) = (frame.pointee.width, frame.pointee.height)
    if scratch.count < 8 * (Int(width) + 2) {
      scratch = Array(repeating: 0, count: 8 * (Int(width) + 2))
    }
    let siting = Self.siting(of: frame, layout.pointee)
    let component = layout.pointee.comp.0
    let isSingle = layout.pointee.nb_components <= 2
    let isRGB = layout.pointee.flags & UInt64(AV_PIX_FMT_FLAG_RGB) != 0
    tables.withColor(depth: component.depth, isFullRange: tables.description.isFullRange) { color in
      color.shift = component.shift
      color.bytes = component.depth > 8 ? 2 : 1
      color.chroma_shift_x = isSingle ? 0 : Int32(layout.pointee.log2_chroma_w)
      color.chroma_shift_y = isSingle ? 0 : Int32(layout.pointee.log2_chroma_h)
      (color.chroma_place_x, color.chroma_place_y) = siting
      // RGB planes are stored in the order green, blue, red.
      let order = isSingle ? [0, 0, 0] : isRGB ? [2, 0, 1] : [0, 1, 2]
      withPlanes(of: frame) { planes, strides in
        var data: (UnsafePointer<UInt8>?, UnsafePointer<UInt8>?, UnsafePointer<UInt8>?) = (
          planes[order[0]], planes[order[1]], planes[order[2]]
        )
        var steps = (Int(strides[order[0]]), Int(strides[order[1]]), Int(strides[order[2]]))
        withUnsafePointer(to: &data) { data in
          withUnsafePointer(to: &steps) { steps in
            data.withMemoryRebound(to: UnsafePointer<UInt8>?.self, capacity: 3) { data in
              steps.withMemoryRebound(to: Int.self, capacity: 3) { steps in
                scratch.withUnsafeMutableBufferPointer { scratch in
                  cpixels_convert(
                    &color, data, steps, width, height, 0, height, output,
                    Int(target.pointee.linesize.0),
                    scratch.baseAddress)
                }
              }
            }
          }
        }
      }
    }
  }

  /// The position of the first chroma sample in half pixels. In untagged 4:2:0 it is at the left,
  /// as in MPEG-2 and all later codecs; in full range it is centered, as in JPEG.
  private static func siting(
    of frame: UnsafePointer<AVFrame>, _ layout: AVPixFmtDescriptor
  ) -> (x: Int32, y: Int32) {
    let location = frame.pointee.chroma_location
    let isCenteredX = [AVCHROMA_LOC_CENTER, AVCHROMA_LOC_TOP, AVCHROMA_LOC_BOTTOM].contains(
      location)
    let isTop = [AVCHROMA_LOC_TOPLEFT, AVCHROMA_LOC_TOP].contains(location)
    let centerX = (Int32(1) << Int32(layout.log2_chroma_w)) - 1
    let centerY = (Int32(1) << Int32(layout.log2_chroma_h)) - 1
    return (isCenteredX ? centerX : 0, isTop ? 0 : centerY)
  }

  /// Returns whether frames of a pixel format can be read directly: planes of 8 to 16 bits,
  /// little-endian, of YUV, RGB or gray.
  static func reads(_ format: AVPixelFormat) -> Bool {
    guard let layout = av_pix_fmt_desc_get(format)?.pointee else { return false }
    let unlike =
      AV_PIX_FMT_FLAG_PAL | AV_PIX_FMT_FLAG_BITSTREAM | AV_PIX_FMT_FLAG_HWACCEL
      | AV_PIX_FMT_FLAG_BAYER
      | AV_PIX_FMT_FLAG_FLOAT
    guard layout.flags & UInt64(unlike) == 0, format != AV_PIX_FMT_XYZ12LE,
      format != AV_PIX_FMT_XYZ12BE
    else { return false }
    let components = [layout.comp.0, layout.comp.1, layout.comp.2].prefix(
      layout.nb_components <= 2 ? 1 : 3)
    let size: Int32 = layout.comp.0.depth > 8 ? 2 : 1
    let isBig = layout.flags & UInt64(AV_PIX_FMT_FLAG_BE) != 0
    guard size == 1 || !isBig, (8...16).contains(layout.comp.0.depth) else { return false }
    return components.allSatisfy {
      $0.step == size && $0.depth == layout.comp.0.depth && $0.offset == 0
    }
      && Set(components.map(\.plane)).count == components.count
  }

  /// A layout that `reads` supports and that preserves all data of another.
  static func readable(_ format: AVPixelFormat) -> AVPixelFormat {
    if reads(format) { return format }
    guard let layout = av_pix_fmt_desc_get(format)?.pointee else { return AV_PIX_FMT_GBRP }
    let isDeep = layout.comp.0.depth > 8
    if layout.flags & UInt64(AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL | AV_PIX_FMT_FLAG_BAYER) != 0
    {
      return isDeep ? AV_PIX_FMT_GBRP16LE : AV_PIX_FMT_GBRP
    }
    if layout.nb_components <= 2 { return isDeep ? AV_PIX_FMT_GRAY16LE : AV_PIX_FMT_GRAY8 }
    switch (layout.log2_chroma_w, layout.log2_chroma_h) {
    case (1, 1): return isDeep ? AV_PIX_FMT_YUV420P16LE : AV_PIX_FMT_YUV420P
    case (1, 0): return isDeep ? AV_PIX_FMT_YUV422P16LE : AV_PIX_FMT_YUV422P
    default: return isDeep ? AV_PIX_FMT_YUV444P16LE : AV_PIX_FMT_YUV444P
    }
  }
}
