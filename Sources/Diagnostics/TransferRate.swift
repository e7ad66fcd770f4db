import Support
import Torch

/// The speed of copies from the host to a GPU.
enum TransferRate {
  /// A short measurement: three uploads of 64 MB from page-locked memory.
  static func check(_ device: Device) throws -> Check {
    let bytes = 64_000_000
    let source = try Tensor.zeros([bytes], dtype: .uint8).pinned()
    let seconds = try Timing.seconds(on: device, repetitions: 3) {
      _ = try source.to(device, nonBlocking: true)
    }
    let rate = Double(bytes) / seconds
    return Check(
      "\(device) upload", .ok, "\(rounded(rate / 1e9)) GB/s from page-locked memory",
      values: ["bytes_per_second": JSON(rate)])
  }
}

/// Measures the time of work on a device.
enum Timing {
  /// The seconds of one call of a closure, after a first one that is not counted: it allocates
  /// memory and lets libraries choose their kernels.
  ///
  /// - Parameter repetitions: The number of calls, fewer if they take longer than 0.2 s together.
  static func seconds(
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
