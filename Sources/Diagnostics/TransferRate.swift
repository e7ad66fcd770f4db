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
