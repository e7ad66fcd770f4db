/// The version of a model: `2.3.0`, `2.3.rc1`, `2.3-rc1`.
public struct ModelVersion: Sendable, Comparable, CustomStringConvertible {
  /// The numeric parts, up to the first part that isn't a number.
  public let parts: [Int]
  public let description: String

  /// Nil for a string that does not begin with a number.
  public init?(_ text: String) {
    let numbers = text.split(whereSeparator: { $0 == "." || $0 == "-" }).prefix {
      $0.allSatisfy(\.isASCIIDigit)
    }
    parts = numbers.compactMap { Int($0) }
    description = text
    guard !parts.isEmpty, parts.count == numbers.count else { return nil }
  }

  /// 2.3 sorts before 2.3.0 and 2.3.1, because candidates for 2.3 do.
  public static func < (a: ModelVersion, b: ModelVersion) -> Bool {
    a.parts.lexicographicallyPrecedes(b.parts)
  }

  public static func == (a: ModelVersion, b: ModelVersion) -> Bool { a.parts == b.parts }

  /// Whether the version has these parts, or is a later one.
  public func isAtLeast(_ parts: Int...) -> Bool { !self.parts.lexicographicallyPrecedes(parts) }
}

extension Character {
  fileprivate var isASCIIDigit: Bool { ("0"..."9").contains(self) }
}
