import Foundation

/// The pretend GPU of `Tests/PretendGPU`: a `libtorch_cuda.so` that computes on the CPU, so that
/// `ltx --device cuda` runs on any machine.
enum PretendGPU {
  /// The folder of the library, built at the first use.
  static let folder = Result { try build() }

  /// The counts of one process.
  struct Report: Decodable {
    struct Memory: Decodable {
      let liveBytes, peakBytes, allocations: Int
    }

    /// Kernels that were launched, and the bytes that they read and wrote.
    let kernels, bytes: Int
    /// The times that the host waited for the device.
    let syncs: Int
    let uploads, pageableBytes, pinnedBytes: Int
    let downloads, downloadedBytes: Int
    let devices: [Memory]
    /// Calls and bytes by the operation's name.
    let operations: [String: [Int]]
  }

  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  /// Runs `ltx` with a pretend GPU. Copies that don't block happen as late as CUDA allows.
  ///
  /// - Parameters:
  ///   - bytes: The memory of the device; nil for no limit.
  ///   - environment: Other settings of `Tests/PretendGPU/README.md`.
  static func run(
    _ arguments: [String], in folder: String, bytes: Int? = nil, environment: [String: String] = [:]
  ) throws -> (result: Program.Result, report: Report) {
    let path = "\(folder)/pretend-gpu-\(UUID().uuidString).json"
    var settings = environment
    settings["LD_LIBRARY_PATH"] = try Self.folder.get()
    settings["PRETEND_GPU_LATE"] = "1"
    settings["PRETEND_GPU_REPORT"] = path
    settings["PRETEND_GPU_BYTES"] = bytes.map(String.init)
    let result = try Program.run(arguments, in: folder, environment: settings)
    guard let data = FileManager.default.contents(atPath: path) else {
      throw Failure(
        description: "ltx ended without a report of the pretend GPU, with status \(result.status): "
          + result.errors)
    }
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return (result, try decoder.decode(Report.self, from: data))
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
