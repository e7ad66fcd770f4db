/// The frame rate of a clip, derived from the times of its frames.
///
/// Containers round timestamps, miscount lengths, and give mean rates if frames are missing. So the
/// rate is the one at which most frames follow each other. If a frame comes later than expected at
/// this rate, frames before it are missing.
struct FrameClock: Equatable {
  enum Reading: Equatable {
    /// The frames follow the container's rate closely enough.
    case asDeclared
    /// The frames have this rate, but some are missing or shown longer. `count` is the number of
    /// frame times without a frame.
    case gaps(rate: Double, count: Int)
    /// The frames follow no steady rate; `rate` is their mean.
    case uneven(rate: Double)
  }

  /// Frames per second from the container: the mean rate first, then the base of its timestamps.
  let declared: [Double]
  /// The unit of the timestamps, in seconds.
  let unit: Double

  private static let usualRates = [
    24000.0 / 1001, 24, 25, 30000.0 / 1001, 30, 48, 50, 60000.0 / 1001, 60, 120, 15, 12.5, 12, 10,
  ]

  /// Derives the rate.
  ///
  /// - Parameter times: the times of all frames, in seconds from the first one.
  func read(_ times: [Double]) -> Reading {
    guard let rate = declared.first, let last = times.last, times.count > 1, last > 0 else {
      return .asDeclared
    }
    if let nominal = nominalRate(times) {
      // If a single frame is late and the next one is on time, no frame is missing.
      let lags = zip(times, 0...).map { $0 * nominal - Double($1) }
      let lasting = lags.reversed().reduce(into: (min: Double.infinity, max: 0.0)) {
        result, lag in
        result.min = min(result.min, lag)
        result.max = max(result.max, result.min)
      }.max
      if lasting > 0.75 {
        let steps = zip(times.dropFirst(), times).map { Int((($0 - $1) * nominal).rounded()) }
        return .gaps(rate: nominal, count: max(1, steps.reduce(0) { $0 + max(0, $1 - 1) }))
      }
    }
    // Frames that are never further than one frame's time from a steady rate count as steady.
    let drift = zip(times, 0...).map { abs($0 * rate - Double($1)) }.max() ?? 0
    return drift > 1 ? .uneven(rate: Double(times.count - 1) / last) : .asDeclared
  }

  /// Returns the rate at which most frames follow each other; nil if no rate fits.
  private func nominalRate(_ times: [Double]) -> Double? {
    let distances = zip(times.dropFirst(), times).map { $0 - $1 }
    let median = distances.sorted()[distances.count / 2]
    guard distances.count >= 3, median > 0 else { return nil }
    let near = distances.filter { abs($0 - median) <= max(0.15 * median, 1.1 * unit) }
    guard Double(near.count) > 0.7 * Double(distances.count) else { return nil }
    let sum = near.reduce(0, +)
    let rate = Double(near.count) / sum
    // Timestamps are rounded, and over many frames a small difference of rates adds up.
    let tolerance = max(1.5 * unit / sum, min(0.002, 0.3 / Double(times.count)))
    func error(_ known: Double) -> Double { abs(known / rate - 1) }
    let known = declared.reversed().first { error($0) <= tolerance }
    let usual = Self.usualRates.min { error($0) < error($1) }.flatMap {
      error($0) <= tolerance ? $0 : nil
    }
    return known ?? usual ?? rate
  }
}
