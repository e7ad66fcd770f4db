/// An exponential mean: what is `window` steps old weighs 1/e of the newest. Unbiased from the first number on.
public struct MovingMean: Sendable, Equatable {
  private let decay: Double
  private var total = 0.0
  private var weight = 0.0

  /// - Parameter window: in numbers, at least 1.
  public init(window: Double = 50) { decay = 1 - 1 / max(1, window) }

  /// Nil before the first number.
  public var value: Double? { weight > 0 ? total / weight : nil }

  /// Numbers that are not finite are left out.
  public mutating func add(_ number: Double) {
    guard number.isFinite else { return }
    total = decay * total + number
    weight = decay * weight + 1
  }
}
