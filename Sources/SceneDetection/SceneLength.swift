import Media
import Support

/// A length of time on the command line: `123` frames, `2s` or `1.5s` seconds, or a time code
/// `[HH:]MM:SS[.nnn]`.
public enum SceneLength: Equatable, Sendable {
  case frames(Int)
  case seconds(Double)

  /// - Throws: `Issue` for any other string.
  public init(_ text: String) throws {
    if let count = Int(text), count >= 0 {
      self = .frames(count)
    } else if text.hasSuffix("s"), let seconds = Self.number(text.dropLast()) {
      self = .seconds(seconds)
    } else if let seconds = Self.timeCode(text) {
      self = .seconds(seconds)
    } else {
      throw Issue(
        "\"\(text)\" is not a length",
        suggestion: "Give frames (123), seconds (2s, 1.5s) or a time code (00:00:02.500).")
    }
  }

  /// The number of frames at a rate, rounded to the nearest; limited to a value that fits an
  /// integer.
  public func frames(at rate: Rational) -> Int {
    switch self {
    case .frames(let count): count
    case .seconds(let seconds): Int(min(seconds * rate.value, 1e15).rounded(.toNearestOrEven))
    }
  }

  private static func timeCode(_ text: String) -> Double? {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard (2...3).contains(parts.count), let seconds = number(parts[parts.count - 1]), seconds < 60
    else {
      return nil
    }
    var total = seconds
    for (part, unit) in zip(parts.dropLast().reversed(), [60.0, 3600.0]) {
      guard let count = Int(part), count >= 0, unit == 3600 || count < 60 else { return nil }
      total += Double(count) * unit
    }
    return total
  }

  /// Parses digits with at most one point: no sign, exponent, `inf` or `nan`.
  private static func number(_ text: Substring) -> Double? {
    guard text.contains(where: \.isNumber), text.allSatisfy({ "0123456789.".contains($0) }) else {
      return nil
    }
    guard let value = Double(text), value < 1e7 else { return nil }
    return value
  }
}
