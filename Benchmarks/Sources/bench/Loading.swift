import Foundation
@preconcurrency import Glibc
import LTX
import NN
import TensorFiles
import Torch

/// The time from opening a large checkpoint to its first forward pass, compared with reading its
/// file once.
///
/// The checkpoint has two blocks of LTX-2's width, in the real layout and dtype: about 2 GB. The
/// model is loaded in a separate process, so that its peak memory is its own; the time to start it
/// and load libtorch is reported separately.
enum Loading {
  private static let tokens = 16

  /// The report of the loading process.
  private struct Report: Codable {
    /// The times at which the checkpoint was opened and the first forward pass ended, in seconds of
    /// the system's clock.
    var opened: Double
    var end: Double
    /// Seconds of a second forward pass.
    var forward: Double
    var tensorBytes: Int
    /// Resident memory before loading, with libtorch loaded, and the peak afterwards.
    var before: Int
    var peak: Int
  }

  static func run(in folder: URL, report: (String) -> Void) throws {
    var model = TinyTransformer()
    model.blocks = 2
    (model.heads, model.headWidth, model.audioHeadWidth) = (32, 128, 64)
    let path = folder.appendingPathComponent("large.safetensors").path
    try model.write(to: path, seed: 1)
    report(
      "loading \(try FileManager.default.attributesOfItem(atPath: path)[.size] ?? 0) bytes, with an empty page cache"
    )
    for dtype in [DType.bfloat16, .float32] {
      for storage in [""] + (dtype == .bfloat16 ? ["int8"] : []) {
        try evict(path)
        let reading = try seconds { try read(path) }
        try evict(path)
        let start = Date().timeIntervalSince1970
        let found = try child(path, dtype, storage)
        let time = found.end - found.opened - found.forward
        let added = found.peak - found.before
        report(
          String(
            format:
              "%@: read once %.2f s, from opening to the first forward pass %.2f s without it (%.3f s), "
              + "ratio %.2f, program's start %.2f s; "
              + "peak memory %.0f MB above the %.0f MB of the start, tensors %.0f MB, ratio %.3f",
            "\(dtype) \(storage)", reading, time, found.forward, time / reading,
            found.opened - start,
            Double(added) / 1e6,
            Double(found.before) / 1e6, Double(found.tensorBytes) / 1e6,
            Double(added) / Double(found.tensorBytes)))
      }
    }
  }

  /// The other process: loads, runs twice and reports.
  static func load(_ path: String, _ dtype: String, _ storage: String) throws {
    let dtype = DType(rawValue: dtype) ?? .bfloat16
    let warm = try Tensor.ones([64, 64], dtype: dtype)
    _ = try warm.linear(warm)
    let before = memory("VmRSS")
    let opened = Date().timeIntervalSince1970
    let checkpoint = try Checkpoint(path: path)
    let transformer = try checkpoint.transformer(
      LoadPolicy(dtype: dtype, storage: storage == "int8" ? .int8 : .asStored), modalities: .both)
    let c = transformer.configuration
    func stream(_ stream: TransformerConfiguration.Sizes) throws -> ModalityInput {
      ModalityInput(
        latent: try .ones([1, tokens, stream.inputs], dtype: dtype),
        timesteps: try .full([1, 1], 0.5),
        sigma: try .full([1], 0.5),
        positions: try .zeros([1, stream.maxPositions.count, tokens, 2]),
        context: try .ones([1, tokens, c.captionChannels ?? stream.contextWidth], dtype: dtype))
    }
    let (video, audio) = (try stream(c.sizes.video), try stream(c.sizes.audio))
    func forward() throws {
      _ = try withoutGrad {
        try transformer(PerModality(video: video, audio: audio)).video?.to(.float32).sum().item()
      }
    }
    try forward()
    let end = Date().timeIntervalSince1970
    let time = try seconds(forward)
    let own = { (entry: TensorEntry) in
      let isRounded = storage == "int8" && entry.shape.count == 2
      return entry.byteCount / entry.dtype.size * (isRounded ? 1 : dtype.size)
    }
    let bytes = checkpoint.source.entries.filter { !$0.key.contains("_connector.") }.values.map(own)
      .reduce(
        0, +)
    let report = Report(
      opened: opened, end: end, forward: time, tensorBytes: bytes, before: before,
      peak: memory("VmHWM"))
    FileHandle.standardOutput.write(try JSONEncoder().encode(report))
  }

  private static func child(_ path: String, _ dtype: DType, _ storage: String) throws -> Report {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    process.arguments = [
      "--load", path, "--dtype", dtype.rawValue, "--storage", storage, "--threads",
      String(Threads.count),
    ]
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let data = try output.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    return try JSONDecoder().decode(Report.self, from: data)
  }

  private static func read(_ path: String) throws {
    let descriptor = open(path, O_RDONLY)
    guard descriptor >= 0 else { throw BenchmarkError("\(path) can't be read") }
    defer { close(descriptor) }
    posix_fadvise(descriptor, 0, 0, POSIX_FADV_SEQUENTIAL)
    let buffer = UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 4096)
    defer { buffer.deallocate() }
    while Glibc.read(descriptor, buffer, 1 << 20) > 0 {}
  }

  /// Drops only this file from the page cache: libtorch's 450 MB stay.
  private static func evict(_ path: String) throws {
    let descriptor = open(path, O_RDONLY)
    guard descriptor >= 0 else { throw BenchmarkError("\(path) can't be read") }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0, posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED) == 0 else {
      throw BenchmarkError("\(path) can't be dropped from the page cache")
    }
  }

  /// A value of the process's status, in bytes.
  private static func memory(_ name: String) -> Int {
    guard let status = FileManager.default.contents(atPath: "/proc/self/status") else { return 0 }
    let line = String(decoding: status, as: UTF8.self).split(separator: "\n").first {
      $0.hasPrefix(name + ":")
    }
    return (line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) } ?? 0)
      * 1024
  }
}
