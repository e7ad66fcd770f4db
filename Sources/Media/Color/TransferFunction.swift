import CFFmpeg
import Foundation

/// A curve between code values and light, both from 0 to 1 (ITU-T H.273, table 3).
enum TransferFunction: Equatable, Sendable {
  /// The curve of a display for SDR video: BT.1886, a power of 2.4. Used for BT.709, BT.601 and SDR
  /// BT.2020.
  case video
  /// BT.709's camera curve, which defines BT.2020 with constant luminance.
  case camera
  case sRGB
  case power(Double)
  case linear
  /// A log10 curve over this number of decades.
  case logarithmic(decades: Double)
  /// SMPTE ST 2084; light of 1 is 10000 nits.
  case pq
  /// ARIB STD-B67; scene light.
  case hlg

  /// Nil for tags of SDR and unspecified ones. SDR includes gamma 2.2, which displays have and
  /// FFmpeg gives plain images.
  init?(_ tag: AVColorTransferCharacteristic) {
    switch tag {
    case AVCOL_TRC_GAMMA28: self = .power(2.8)
    case AVCOL_TRC_LINEAR: self = .linear
    case AVCOL_TRC_LOG: self = .logarithmic(decades: 2)
    case AVCOL_TRC_LOG_SQRT: self = .logarithmic(decades: 2.5)
    case AVCOL_TRC_SMPTE2084: self = .pq
    case AVCOL_TRC_SMPTE428: self = .power(2.6)
    case AVCOL_TRC_ARIB_STD_B67: self = .hlg
    default: return nil
    }
  }

  var isHDR: Bool { self == .pq || self == .hlg }

  var name: String {
    switch self {
    case .video, .camera: "BT.709"
    case .sRGB: "sRGB"
    case .power(let exponent): "gamma \(exponent)"
    case .linear: "linear light"
    case .logarithmic: "logarithmic"
    case .pq: "PQ"
    case .hlg: "HLG"
    }
  }

  /// The light of a code value.
  func light(_ code: Double) -> Double {
    switch self {
    case .video: return pow(code, 2.4)
    case .camera: return code < 0.081 ? code / 4.5 : pow((code + 0.0993) / 1.0993, 1 / 0.45)
    case .sRGB: return code <= 0.04045 ? code / 12.92 : pow((code + 0.055) / 1.055, 2.4)
    case .power(let exponent): return pow(code, exponent)
    case .linear: return code
    case .logarithmic(let decades): return code <= 0 ? 0 : pow(10, decades * (code - 1))
    case .pq:
      let x = pow(code, 1 / Self.m2)
      return pow(max(0, x - Self.c1) / (Self.c2 - Self.c3 * x), 1 / Self.m1)
    case .hlg:
      return code <= 0.5 ? code * code / 3 : (exp((code - Self.hlgC) / Self.hlgA) + Self.hlgB) / 12
    }
  }

  /// The code value for light.
  func code(_ light: Double) -> Double {
    switch self {
    case .video: return pow(light, 1 / 2.4)
    case .camera: return light < 0.018 ? 4.5 * light : 1.0993 * pow(light, 0.45) - 0.0993
    case .sRGB: return light <= 0.0031308 ? 12.92 * light : 1.055 * pow(light, 1 / 2.4) - 0.055
    case .power(let exponent): return pow(light, 1 / exponent)
    case .linear: return light
    case .logarithmic(let decades):
      return light <= pow(10, -decades) ? 0 : 1 + log10(light) / decades
    case .pq:
      let x = pow(light, Self.m1)
      return pow((Self.c1 + Self.c2 * x) / (1 + Self.c3 * x), Self.m2)
    case .hlg:
      return light <= 1.0 / 12
        ? (3 * light).squareRoot() : Self.hlgA * log(12 * light - Self.hlgB) + Self.hlgC
    }
  }

  private static let m1 = 2610.0 / 16384
  private static let m2 = 2523.0 / 32
  private static let c1 = 3424.0 / 4096
  private static let c2 = 2413.0 / 128
  private static let c3 = 2392.0 / 128
  private static let hlgA = 0.17883277
  private static let hlgB = 0.28466892
  private static let hlgC = 0.55991073
}
