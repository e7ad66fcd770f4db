import BlockExecution
import Foundation
import Support
import Torch

extension DeviceRates {
  /// The file with the rates of earlier runs.
  public static var cachePath: String {
    let environment = ProcessInfo.processInfo.environment
    let folder =
      environment["XDG_CACHE_HOME"].flatMap { $0.isEmpty ? nil : $0 }
      ?? NSHomeDirectory() + "/.cache"
    return "\(folder)/ltx/device-rates.json"
  }

  /// The rates of a device, measured at its first use and kept in `cachePath`. If that file can't be
  /// read or written, they are measured in each run.
  ///
  /// - Throws: `TorchError` if the device fails.
  public static func of(_ device: Device) throws -> DeviceRates {
    try of(device, cache: cachePath)
  }

  static func of(_ device: Device, cache path: String) throws -> DeviceRates {
    let key = try key(device)
    let data = FileManager.default.contents(atPath: path)
    var known = data.flatMap { try? JSON.decode([String: DeviceRates].self, from: $0) } ?? [:]
    if let rates = known[key], rates.isPossible { return rates }
    let rates = try measured(device)
    known[key] = rates
    try? FileManager.default.createDirectory(
      atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
    try? AtomicFile.write(JSON(encoding: known).data(), to: path)
    return rates
  }

  /// Whether the rates can be those of a device; a file may have been changed.
  private var isPossible: Bool {
    [upload, products, launch].allSatisfy { $0.isFinite && $0 > 0 }
  }

  /// Identifies the device and what its rates depend on.
  static func key(_ device: Device) throws -> String {
    guard let gpu = try device.gpu() else { return "CPU, libtorch \(LibTorch.version)" }
    let driver = CUDADriver().version ?? "unknown"
    return "\(gpu.name), driver \(driver), libtorch \(LibTorch.version)"
  }

  /// Measures the rates, which takes less than a second.
  static func measured(_ device: Device) throws -> DeviceRates {
    try withInference {
      let bytes = 64_000_000
      let source = try Tensor.zeros([bytes], dtype: .uint8)
      let pinned = device == .cpu ? source : try source.pinned()
      let upload = try Timing.seconds(on: device, repetitions: 3) {
        _ = device == .cpu ? try pinned.clone() : try pinned.to(device, nonBlocking: true)
      }
      return DeviceRates(
        upload: Double(bytes) / upload, products: try products(device),
        launch: try launch(device))
    }
  }

  /// Products of matrices that are large enough to use the whole device.
  private static func products(_ device: Device) throws -> Double {
    var size = 1024
    while true {
      let matrix = try Tensor.full([size, size], 0.01, dtype: .bfloat16, device: device)
      let seconds = try Timing.seconds(on: device, repetitions: 4) { _ = try matrix.matmul(matrix) }
      if seconds > 1e-3 || size >= 8192 {
        return 2 * Double(size * size) * Double(size) / max(seconds, 1e-9)
      }
      size *= 2
    }
  }

  private static func launch(_ device: Device) throws -> Double {
    let x = try Tensor.zeros([16], device: device)
    return try Timing.seconds(on: device, repetitions: 1000) { try x.add_(x) }
  }
}

extension MachineResources {
  /// The resources of a device and of this host.
  ///
  /// Half of the host's free memory may be page-locked.
  ///
  /// - Parameters:
  ///   - deviceBytes: The memory for tensors.
  ///   - path: The file that weights are read from, or a folder of such files.
  /// - Throws: `TorchError` if the device fails.
  public init(_ device: Device, deviceBytes: Int, readingFrom path: String) throws {
    self.init(
      deviceBytes: deviceBytes, hostBytes: HostMemory.usableBytes / 2,
      rates: try DeviceRates.of(device), readRate: Self.readRate(path))
  }

  /// The rate at which the largest file is read now, in bytes per second: from the page cache, if it
  /// is there. A file that can't be read has a rate of 1 GB/s here; opening it reports the error.
  static func readRate(_ path: String) -> Double {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    let files = names.isEmpty ? [path] : names.map { "\(path)/\($0)" }
    let sizes = files.map { file -> (file: String, bytes: UInt64) in
      let attributes = try? FileManager.default.attributesOfItem(atPath: resolved(file))
      return (file, attributes?[.size] as? UInt64 ?? 0)
    }
    let unknown = 1e9
    guard let largest = sizes.max(by: { $0.bytes < $1.bytes }), largest.bytes > 0,
      let handle = FileHandle(forReadingAtPath: largest.file)
    else { return unknown }
    defer { try? handle.close() }
    let start = ContinuousClock.now
    var bytes = 0
    for part in 1...3 {
      guard (try? handle.seek(toOffset: largest.bytes / 4 * UInt64(part))) != nil,
        let data = try? handle.read(upToCount: 16_000_000)
      else { return unknown }
      bytes += data.count
    }
    return Double(bytes) / max((ContinuousClock.now - start) / .seconds(1), 1e-9)
  }

  private static func resolved(_ path: String) -> String {
    URL(fileURLWithPath: path).resolvingSymlinksInPath().path
  }
}
