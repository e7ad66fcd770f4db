/// An exponential mean over the newest numbers: some `window` of them, and a fifth of them while
/// there are fewer than five times as many, so that the mean of a short run does not lag. The first
/// five weigh the same.
public struct MovingMean: Sendable, Equatable {
  private let window: Double
  private var count = 0.0
  /// Nil before the first number.
  public private(set) var value: Double?

  /// - Parameter window: in numbers, at least 1.
  public init(window: Double = 50) { self.window = max(1, window) }

  /// Numbers that are not finite are left out.
  public mutating func add(_ number: Double) {
    guard number.isFinite else { return }
    count += 1
    let length = min(window, max(min(count, 5), count / 5))
    let old = value ?? number
    value = old + (number - old) / length
  }
}
