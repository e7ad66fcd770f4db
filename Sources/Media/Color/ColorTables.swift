import CFFmpeg
import CPixels
import Foundation

/// The tables and matrices of one conversion to SDR BT.709, for `cpixels_convert`.
final class ColorTables {
  let description: ColorDescription
  private let linear: [Float]
  private let encoded: [Int32]
  private let tone: [Float]
  private let systemGamma: [Float]
  private let premix: ColorMatrix?
  private let gamut: ColorMatrix
  /// Whether light is computed, and not only a matrix applied.
  private let usesLight: Bool

  /// - Throws: `MediaError` for an unknown matrix.
  init(_ description: ColorDescription, isImage: Bool, file: String) throws {
    self.description = description
    if case .unknown(let name) = description.matrix {
      throw MediaError(
        .decoding, file: file, "the color matrix \(name) is not supported",
        remedy: "Convert the file to BT.709, for example with ffmpeg's zscale filter.")
    }
    let shown: TransferFunction = isImage ? .sRGB : .video
    let isConstant = description.matrix == .constantLuminance
    // Constant luminance is defined with the camera's curve.
    let source = description.transfer ?? (isConstant ? .camera : shown)
    let target = isConstant && description.transfer == nil ? .camera : shown
    usesLight =
      description.transfer != nil || description.primaries != nil || isConstant
      || description.matrix == .ictcp
    let nits = source == .pq ? 10_000 / ToneMapping.white : 1
    let codes = Double(Int(CPIXELS_CODES) - 1)
    linear =
      usesLight
      ? (0..<Int(CPIXELS_CODES)).map { Float(source.light(Double($0) / codes) * nits) } : []
    encoded =
      usesLight
      ? Self.table { Int32((255 * min(1, max(0, target.code(min(1, $0))))).rounded()) } : []
    let mapping = ToneMapping(peak: description.peak)
    tone =
      source.isHDR
      ? Self.table { Float(mapping.mapped($0 * ToneMapping.white) / ($0 * ToneMapping.white)) } : []
    // The scene light of HLG on a display of 1000 nits: ITU-R BT.2100, with a system gamma of 1.2.
    systemGamma =
      source == .hlg ? Self.table { Float(pow($0, 0.2) * 1000 / ToneMapping.white) } : []
    let primaries = description.primaries ?? .bt709
    gamut = primaries.matrix(to: .bt709)
    switch description.matrix {
    case .constantLuminance:
      let (red, blue) = (0.2627, 0.0593)
      let green = 1 - red - blue
      premix = ColorMatrix(rows: [0, 1, 0, 1 / green, -red / green, -blue / green, 0, 0, 1])
    case .ictcp:
      premix =
        ColorMatrix(rows: [1688, 2146, 262, 683, 2951, 462, 99, 309, 3688].map { $0 / 4096 })
        .inverse
    default: premix = nil
    }
  }

  private static func table<Value>(_ value: (Double) -> Value) -> [Value] {
    // The middle of the range of floats with these upper bits.
    let first = (127 + Int(CPIXELS_LOW_OCTAVE)) * Int(CPIXELS_STEPS)
    return (0..<Int(CPIXELS_ENTRIES)).map { index in
      let bits = UInt32(index + first) << 14 + 1 << 13
      return value(Double(Float(bitPattern: bits)))
    }
  }

  /// The conversion for samples of a bit depth; valid inside the closure.
  func withColor(depth: Int32, isFullRange: Bool, _ body: (inout cpixels_color) -> Void) {
    var color = cpixels_color()
    color.depth = depth
    let unit = Double(1 << (depth - 8))
    let largest = Double(1 << depth) - 1
    color.black = isFullRange ? 0 : Float(16 * unit)
    color.white = Float(isFullRange ? largest : 219 * unit)
    color.zero = Float(128 * unit)
    color.chroma = Float(isFullRange ? largest : 224 * unit)
    Self.store(matrix(&color), in: &color.matrix)
    if let premix {
      color.has_premix = 1
      Self.store(premix, in: &color.premix)
    }
    Self.store(gamut, in: &color.gamut)
    let weights = (description.primaries ?? .bt709).luminance
    color.luminance = (Float(weights[0]), Float(weights[1]), Float(weights[2]))
    linear.withUnsafeBufferPointer { linear in
      encoded.withUnsafeBufferPointer { encoded in
        tone.withUnsafeBufferPointer { tone in
          systemGamma.withUnsafeBufferPointer { systemGamma in
            if usesLight {
              color.linear = (linear.baseAddress, linear.baseAddress, linear.baseAddress)
              color.encoded = encoded.baseAddress
              if !tone.isEmpty { color.tone = tone.baseAddress }
              if !systemGamma.isEmpty { color.system_gamma = systemGamma.baseAddress }
            }
            body(&color)
          }
        }
      }
    }
  }

  /// The matrix from samples, as the kernel scales them, to red, green and blue (or L, M and S).
  private func matrix(_ color: inout cpixels_color) -> ColorMatrix {
    switch description.matrix {
    case .rgb:
      // All three are scaled like luma.
      color.zero = color.black
      color.chroma = color.white
      return .identity
    case .gray:
      return ColorMatrix(rows: [1, 0, 0, 1, 0, 0, 1, 0, 0])
    case .weights(let red, let blue):
      let green = 1 - red - blue
      let (toRed, toBlue) = (2 * (1 - red), 2 * (1 - blue))
      return ColorMatrix(
        rows: [1, 0, toRed, 1, -blue * toBlue / green, -red * toRed / green, 1, toBlue, 0])
    case .ycgco: return ColorMatrix(rows: [1, -1, 1, 1, 1, 0, 1, -1, -1])
    case .constantLuminance:
      color.constant_luminance = 1
      (color.red_negative, color.red_positive) = (2 * 0.8591, 2 * 0.4969)
      (color.blue_negative, color.blue_positive) = (2 * 0.9702, 2 * 0.7910)
      return .identity
    case .ictcp:
      let rows: [Double] =
        description.transfer == .hlg
        ? [2048, 2048, 0, 3625, -7465, 3840, 9500, -9212, -288]
        : [2048, 2048, 0, 6610, -13613, 7003, 17933, -17390, -543]
      return ColorMatrix(rows: rows.map { $0 / 4096 }).inverse
    case .unknown: return .identity
    }
  }

  private static func store(
    _ matrix: ColorMatrix,
    in field: inout (Float, Float, Float, Float, Float, Float, Float, Float, Float)
  ) {
    let rows = matrix.rows.map(Float.init)
    field = (rows[0], rows[1], rows[2], rows[3], rows[4], rows[5], rows[6], rows[7], rows[8])
  }
}
