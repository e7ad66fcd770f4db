import Foundation
import Support
import TensorFiles
import Torch

/// The kind of host memory that a tensor is copied from.
enum UploadSource: String, CaseIterable {
  /// Page-locked memory, which the GPU reads by itself.
  case pinned
  case pageable
  /// A file that is mapped into memory, as weights are.
  case mapped
}

extension Measurement {
  private static let uploadedBytes = 128_000_000

  func upload(from source: UploadSource) throws -> JSONObject {
    let bytes = Self.uploadedBytes
    let seconds: Double
    switch source {
    case .pinned: seconds = try time(hostTensor().pinned(), nonBlocking: true)
    case .pageable: seconds = try time(hostTensor(), nonBlocking: false)
    case .mapped:
      let path = TemporaryFiles.name(beside: "\(folder)/upload.safetensors")
      TemporaryFiles.add(path)
      defer {
        unlink(path)
        TemporaryFiles.remove(path)
      }
      try writeSafetensors([("x", hostTensor())], to: path, isDurable: false)
      let mapped = try SafetensorsFile(path: path).tensor("x")
      seconds = try time(mapped, nonBlocking: false)
    }
    return [
      "bytes": JSON(bytes), "seconds": JSON(seconds),
      "bytes_per_second": JSON(Double(bytes) / seconds),
    ]
  }

  private func hostTensor() throws -> Tensor {
    try Tensor.full([Self.uploadedBytes], 85, dtype: .uint8)
  }

  /// The seconds of one upload.
  private func time(_ tensor: Tensor, nonBlocking: Bool) throws -> Double {
    try Timing.seconds(on: device, repetitions: 4) {
      _ = try tensor.to(device, nonBlocking: nonBlocking)
    }
  }
}
