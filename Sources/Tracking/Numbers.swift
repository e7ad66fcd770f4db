import Foundation

/// A number with a fixed count of digits after the point, independent of the locale.
func fixed(_ value: Double, _ digits: Int) -> String { String(format: "%.\(digits)f", value) }

/// A loss or a norm, in 5 to 9 characters.
func measured(_ value: Double) -> String {
  guard value.isFinite else { return value.isNaN ? "nan" : value < 0 ? "-inf" : "inf" }
  let size = abs(value)
  return size == 0 || (0.001..<1000).contains(size)
    ? fixed(value, 4) : String(format: "%.3e", value)
}

/// A length of time in the largest fitting units.
func timeText(_ seconds: Double) -> String {
  guard seconds.isFinite, seconds < 1e7 else { return "long" }
  let s = Int(max(0, seconds).rounded(.up))
  if s < 60 { return "\(s) s" }
  return s < 3600
    ? String(format: "%d:%02d min", s / 60, s % 60)
    : String(format: "%d:%02d h", s / 3600, s / 60 % 60)
}

/// Steps per second, or seconds per step if a step takes longer than a second.
func rateText(secondsPerStep: Double) -> String? {
  guard secondsPerStep.isFinite, secondsPerStep > 0 else { return nil }
  return secondsPerStep > 1
    ? String(format: "%.3g s/it", secondsPerStep) : String(format: "%.3g it/s", 1 / secondsPerStep)
}

/// Memory in GiB, or in MiB if it is less than one GiB.
func memoryText(_ bytes: Int) -> String {
  bytes < 1 << 30
    ? fixed(Double(bytes) / 0x1p20, 0) + " MiB" : fixed(Double(bytes) / 0x1p30, 2) + " GiB"
}

/// The common unit of amounts of memory that are shown together.
public enum MemoryUnit: String, Sendable, Equatable {
  case mebibytes = "MiB"
  case gibibytes = "GiB"

  /// - Parameter bytes: the largest amount.
  public init(fitting bytes: Int) { self = bytes < 1 << 30 ? .mebibytes : .gibibytes }

  public var bytes: Double { self == .mebibytes ? 0x1p20 : 0x1p30 }

  /// `84.0 MiB`, `0.21 GiB`
  public func text(_ count: Int) -> String {
    "\(fixed(Double(count) / bytes, self == .mebibytes ? 1 : 2)) \(rawValue)"
  }
}
