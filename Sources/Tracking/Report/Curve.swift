/// A value over steps.
public struct Curve: Sendable, Equatable {
  public private(set) var steps: [Int] = []
  public private(set) var values: [Double] = []

  public init() {}

  public var isEmpty: Bool { steps.isEmpty }

  /// Adds a value. Values that are not finite are skipped.
  ///
  /// - Parameter step: the step, at least that of the last value.
  public mutating func add(_ value: Double, at step: Int) {
    guard value.isFinite else { return }
    steps.append(step)
    values.append(value)
  }

  /// Returns the curve with all values divided by a number.
  func divided(by divisor: Double) -> Curve {
    var curve = self
    curve.values = values.map { $0 / divisor }
    return curve
  }

  /// Returns at most `count` points that look the same when drawn: the smallest and the largest
  /// value of each span of steps, in their order, and always the first and the last point.
  public func thinned(to count: Int) -> Curve {
    guard values.count > count, count >= 4, let first = steps.first, let last = steps.last else {
      return self
    }
    let spans = (count - 2) / 2
    let length = max(1, last - first + 1)
    var thin = Curve()
    func take(_ index: Int) {
      thin.steps.append(steps[index])
      thin.values.append(values[index])
    }
    take(0)
    var index = 1
    while index < values.count - 1 {
      let span = (steps[index] - first) * spans / length
      var (low, high) = (index, index)
      while index < values.count - 1, (steps[index] - first) * spans / length == span {
        if values[index] < values[low] { low = index }
        if values[index] > values[high] { high = index }
        index += 1
      }
      take(min(low, high))
      if low != high { take(max(low, high)) }
    }
    take(values.count - 1)
    return thin
  }
}
