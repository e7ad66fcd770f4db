/// The generation of a model: `2.3.0`, `2.3.rc1`, `2.3-rc1`.
public struct ModelVersion: Sendable, Comparable, CustomStringConvertible {
  /// The numbers, up to the first part that is not a number.
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

  /// 2.3 comes before 2.3.0 and 2.3.1, as candidates for 2.3 do.
  public static func < (a: ModelVersion, b: ModelVersion) -> Bool {
    a.parts.lexicographicallyPrecedes(b.parts)
  }

  public static func == (a: ModelVersion, b: ModelVersion) -> Bool { a.parts == b.parts }

  /// Whether this is the generation of the numbers, or a later one.
  public func isAtLeast(_ parts: Int...) -> Bool { !self.parts.lexicographicallyPrecedes(parts) }
}

extension Character {
  fileprivate var isASCIIDigit: Bool { ("0"..."9").contains(self) }
}
