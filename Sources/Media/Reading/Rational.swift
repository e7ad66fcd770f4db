import CFFmpeg

/// A fraction, the form in which containers store frame rates and time bases.
public struct Rational: Hashable, Sendable, CustomStringConvertible {
  public let numerator: Int
  public let denominator: Int

  /// - Parameter denominator: Must not be zero.
  public init(_ numerator: Int, _ denominator: Int = 1) {
    precondition(denominator != 0, "a fraction needs a denominator other than 0")
    self.numerator = numerator
    self.denominator = denominator
  }

  /// The nearest fraction with terms up to about a million: 29.97002997 becomes 30000/1001.
  public init?(approximating value: Double) {
    guard value.isFinite, abs(value) < 1e6 else { return nil }
    let fraction = av_d2q(value, 1_001_000)
    guard fraction.den > 0 else { return nil }
    self.init(Int(fraction.num), Int(fraction.den))
  }

  public var value: Double { Double(numerator) / Double(denominator) }
  public var inverse: Rational? { numerator == 0 ? nil : Rational(denominator, numerator) }
  public var description: String {
    denominator == 1 ? "\(numerator)" : "\(numerator)/\(denominator)"
  }

  /// Nil for FFmpeg's "unknown".
  init?(_ fraction: AVRational) {
    guard fraction.num > 0, fraction.den > 0 else { return nil }
    self.init(Int(fraction.num), Int(fraction.den))
  }

  /// Nil if the terms don't fit FFmpeg's 32 bits.
  var av: AVRational? {
    guard let num = Int32(exactly: numerator), let den = Int32(exactly: denominator) else {
      return nil
    }
    return AVRational(num: num, den: den)
  }
}
