import CFFmpeg
import Foundation

/// The tone curve from HDR to SDR: the EETF of ITU-R BT.2390-11, annex 5, from the peak of the
/// material to SDR's white.
///
/// SDR's white is 203 nits, the reference white of HDR (ITU-R BT.2408). Light below the knee of the
/// curve is unchanged, so that an SDR image placed in HDR keeps its contrast; highlights roll off
/// to white.
struct ToneMapping: Equatable, Sendable {
  /// The luminance of SDR's white in nits.
  static let white = 203.0
  /// The maximum luminance in nits if the material doesn't give it: the level that HDR10 is graded
  /// for and HLG is defined at.
  static let usualPeak = 1000.0

  /// The maximum luminance in nits, at least `white`.
  let peak: Double

  init(peak: Double) { self.peak = min(10_000, max(Self.white, peak)) }

  /// Applies the curve to light, in nits.
  func mapped(_ nits: Double) -> Double {
    guard peak > Self.white else { return min(nits, Self.white) }
    let top = TransferFunction.pq.code(peak / 10_000)
    let targetWhite = TransferFunction.pq.code(Self.white / 10_000) / top
    let knee = 1.5 * targetWhite - 0.5
    let level = min(1, TransferFunction.pq.code(max(0, nits) / 10_000) / top)
    guard level >= knee else { return nits }
    let t = (level - knee) / (1 - knee)
    let (square, cube) = (t * t, t * t * t)
    let curve =
      (2 * cube - 3 * square + 1) * knee + (cube - 2 * square + t) * (1 - knee)
      + (-2 * cube + 3 * square) * targetWhite
    return TransferFunction.pq.light(curve * top) * 10_000
  }

  /// The peak from a frame's or a stream's metadata: the brightest pixel (MaxCLL), or else the
  /// maximum of the mastering display.
  static func peak(maximumLight: Double?, mastering: Double?) -> Double {
    for luminance in [maximumLight, mastering] {
      if let luminance, luminance.isFinite, luminance >= 1 { return min(10_000, luminance) }
    }
    return usualPeak
  }
}
