import Foundation
import TestSupport

/// The pretend GPU of `Tests/PretendGPU`: a `libtorch_cuda.so` that computes on the CPU, so that
/// `ltx --device cuda` runs on any machine.
enum PretendGPU {
  /// The folder of the library, built at the first use.
  static let folder = Result { try build() }

  /// A cache folder with the rates of a fast card, so that plans don't depend on this machine.
  private static let cache = Result {
    let folder = try ScratchFolder()
    try FileManager.default.createDirectory(
      atPath: "\(folder.path)/ltx", withIntermediateDirectories: true)
    let rates = #"{"upload": 25e9, "products": 300e12, "launch": 6e-6}"#
    try Data(#"{"Pretend GPU, driver unknown, libtorch 2.11.0": \#(rates)}"#.utf8)
      .write(to: URL(fileURLWithPath: "\(folder.path)/ltx/device-rates.json"))
    return folder
  }

  /// The counts of the device up to a point in time.
  protocol Counts {
    /// Kernels that were launched, and the bytes that they read and wrote.
    var kernels: Int { get }
    var bytes: Int { get }
    /// The times that the host waited for the device.
    var syncs: Int { get }
    var uploads: Int { get }
    var pageableBytes: Int { get }
    var pinnedBytes: Int { get }
    var downloads: Int { get }
    var downloadedBytes: Int { get }
    /// The bytes that were sent to other devices.
    var sentBytes: Int { get }
    /// Calls and bytes by the operation's name.
    var operations: [String: [Int]] { get }
  }

  /// The counts of one process.
  struct Report: Decodable, Counts {
    struct Memory: Decodable {
      let liveBytes, peakBytes, allocations: Int
    }

    /// The counts when the program read or reset the device's memory statistics.
    struct Mark: Decodable, Counts {
      let resetsPeak: Bool
      let liveBytes: Int
      /// The peak since the previous mark.
      let peakBytes: Int
      let kernels, bytes, syncs, uploads, pageableBytes, pinnedBytes, downloads,
        downloadedBytes, sentBytes: Int
      let operations: [String: [Int]]
    }

    let kernels, bytes, syncs, uploads, pageableBytes, pinnedBytes, downloads, downloadedBytes,
      sentBytes: Int
    let operations: [String: [Int]]
    let devices: [Memory]
    let marks: [Mark]

    /// The counts for a budget, and the peak of all devices.
    var budget: [String: Int] {
      counts(since: nil).merging(["peak_bytes": devices.map(\.peakBytes).max() ?? 0]) { $1 }
    }
  }

  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  /// Runs `ltx` with a pretend GPU. Copies that don't block happen as late as CUDA allows.
  ///
  /// - Parameters:
  ///   - bytes: The memory of the device; nil for no limit.
  ///   - environment: Other settings of `Tests/PretendGPU/README.md`.
  ///   - isDone: Whether the program has done enough; it is then asked to stop.
  static func run(
    _ arguments: [String], in folder: String, bytes: Int? = nil,
    environment: [String: String] = [:], until isDone: (() -> Bool)? = nil
  ) throws -> (result: Program.Result, report: Report) {
    let path = "\(folder)/pretend-gpu-\(UUID().uuidString).json"
    var settings = try Self.environment(count: 1).merging(environment) { $1 }
    settings["PRETEND_GPU_REPORT"] = path
    settings["PRETEND_GPU_BYTES"] = bytes.map(String.init)
    let outputs = try ScratchFolder()
    let process = try Program.start(
      arguments, in: folder, environment: settings, outputs: outputs.path)
    if let isDone {
      while process.isRunning, !isDone() { usleep(50_000) }
      process.interrupt()
    }
    let result = try Program.result(of: process, in: outputs.path)
    guard let data = FileManager.default.contents(atPath: path) else {
      throw Failure(
        description: "ltx ended without a report of the pretend GPU, with status \(result.status): "
          + result.errors)
    }
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return (result, try decoder.decode(Report.self, from: data))
  }

  /// Runs `ltx train` as several processes with a pretend GPU each.
  ///
  /// - Parameters:
  ///   - gpus: The number of processes. One is started without a launcher.
  ///   - environment: Other settings of `Tests/PretendGPU/README.md`.
  /// - Returns: The counts of the processes, in the order in which they ended.
  static func train(
    _ arguments: [String], gpus: Int, in folder: String, environment: [String: String] = [:]
  ) throws -> (result: Program.Result, reports: [Report]) {
    let path = "\(folder)/pretend-gpus-\(UUID().uuidString).json"
    let settings = try Self.environment(count: gpus).merging(environment) { $1 }
      .merging(["PRETEND_GPU_REPORT": path]) { $1 }
    let launch = gpus == 1 ? [] : ["launch", "--nproc-per-node", "\(gpus)", "ltx"]
    let result = try Program.run(
      launch + ["train"] + arguments + ["--device", "cuda", "--threads", "1"], in: folder,
      environment: settings)
    let text = String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self)
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    let reports = try text.split(separator: "\n").map {
      try decoder.decode(Report.self, from: Data($0.utf8))
    }
    // The launcher may ask for the number of GPUs.
    return (result, reports.filter { $0.kernels > 0 })
  }

  /// The variables with which a program, and those that it starts, see pretend GPUs.
  static func environment(count: Int) throws -> [String: String] {
    [
      "LD_LIBRARY_PATH": try folder.get(), "PRETEND_GPU_LATE": "1",
      "PRETEND_GPU_COUNT": "\(count)", "XDG_CACHE_HOME": try cache.get().path,
    ]
  }

  private static func build() throws -> String {
    let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent()
    let folder = tests.deletingLastPathComponent().appendingPathComponent(".build/pretend-gpu").path
    let process = Process()
    process.executableURL = tests.appendingPathComponent("PretendGPU/build.sh")
    process.arguments = [folder]
    let errors = Pipe()
    process.standardError = errors
    try process.run()
    let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw Failure(description: "Tests/PretendGPU/build.sh failed: \(text)")
    }
    return folder
  }
}

extension PretendGPU.Counts {
  /// The bytes of all operations except products, convolutions and attention.
  fileprivate var elementwiseBytes: Int {
    let others = ["::mm", "::addmm", "::bmm", "::baddbmm", "convolution", "attention"]
    return operations.filter { name, _ in !others.contains { name.contains($0) } }
      .values.reduce(0) { $0 + $1[1] }
  }

  /// The counts of a phase for a budget, since its start.
  func counts(since start: (any PretendGPU.Counts)?) -> [String: Int] {
    func difference(_ count: (any PretendGPU.Counts) -> Int) -> Int {
      count(self) - (start.map(count) ?? 0)
    }
    return [
      "kernels": difference(\.kernels), "syncs": difference(\.syncs),
      "bytes": difference(\.bytes), "elementwise_bytes": difference { $0.elementwiseBytes },
      "uploads": difference(\.uploads), "uploaded_pinned_bytes": difference(\.pinnedBytes),
      "uploaded_pageable_bytes": difference(\.pageableBytes),
      "downloads": difference(\.downloads), "downloaded_bytes": difference(\.downloadedBytes),
    ]
  }
}
