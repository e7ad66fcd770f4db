/// Measures the time of work on a device.
public enum Timing {
  /// The seconds of one call of a closure, after a first one that is not counted: it allocates
  /// memory and lets libraries choose their kernels.
  ///
  /// - Parameter repetitions: The number of calls, fewer if they take longer than 0.2 s together.
  public static func seconds(
    on device: Device, repetitions: Int, _ body: () throws -> Void
  ) throws -> Double {
    func time(_ count: Int) throws -> Double {
      let clock = ContinuousClock()
      let start = clock.now
      for _ in 0..<count { try body() }
      try device.synchronize()
      return (clock.now - start) / .seconds(1) / Double(count)
    }
    _ = try time(1)
    let once = try time(1)
    let count = min(Double(repetitions), 0.2 / once)
    return count < 2 ? once : try time(Int(count))
  }
}
