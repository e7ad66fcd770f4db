import Foundation
import Support

/// Checks the disk of a folder: its free space, and how fast it is read.
struct StorageChecks {
  private let folder: String

  init(_ folder: String) { self.folder = folder }

  /// Below this, not even a small run and its checkpoints fit.
  private static let leastBytes = 10_000_000_000
  private static let trialBytes = 64 << 20

  func run() -> [Check] {
    if let problem = OutputFolder.problem(folder) {
      return [Check("disk", .problem, failure: "\(folder) \(problem)")]
    }
    let existing = nearestFolder
    var status = statvfs()
    guard statvfs(existing, &status) == 0 else {
      return [
        Check("disk", .problem, failure: "\(existing): \(describe(errno: errno))")
      ]
    }
    let free = Int(status.f_bavail) * Int(status.f_frsize)
    let isLow = free < Self.leastBytes
    var values: JSONObject = ["folder": .string(folder), "free_bytes": JSON(free)]
    var text = "\(gigabytes(free)) free for \(folder)"
    if !isLow, let rates = readRates(in: existing) {
      values["disk_bytes_per_second"] = JSON(rates.disk)
      values["cache_bytes_per_second"] = JSON(rates.cache)
      text +=
        ", read at \(rounded(rates.disk / 1e9)) GB/s from the disk and "
        + "\(rounded(rates.cache / 1e9)) GB/s from its cache in memory"
    }
    return [
      Check(
        "disk", isLow ? .note : .ok, text,
        remedy: isLow
          ? "Checkpoints of a LoRA need up to 1 GB each, LTX-2.3 itself 46 GB. Free some space, or "
            + "use another folder"
          : nil, values: values)
    ]
  }

  /// The folder itself, or the nearest one above it that exists.
  private var nearestFolder: String {
    var url = URL(fileURLWithPath: folder).standardizedFileURL
    while url.path != "/", !FileManager.default.fileExists(atPath: url.path) {
      url.deleteLastPathComponent()
    }
    return url.path
  }

  /// The bytes per second of reading a new file, after its pages were dropped and again from
  /// memory; nil if the file can't be written.
  private func readRates(in folder: String) -> (disk: Double, cache: Double)? {
    var path = Array("\(folder)/.ltx-doctor-XXXXXX".utf8CString)
    let file = mkstemp(&path)
    guard file >= 0 else { return nil }
    defer { close(file) }
    // The file has no name from here on, so it can't outlive the program.
    unlink(path)
    // Bytes that a file system can't compress or store as a hole.
    var generator = SystemRandomNumberGenerator()
    let block = (0..<(1 << 17)).map { _ in generator.next() }
    let isWritten = block.withUnsafeBytes { bytes in
      (0..<(Self.trialBytes / bytes.count)).allSatisfy { _ in
        write(file, bytes.baseAddress, bytes.count) == bytes.count
      }
    }
    guard isWritten, fsync(file) == 0 else { return nil }
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED)
    guard let disk = readRate(file), let cache = readRate(file) else { return nil }
    return (disk, cache)
  }

  private func readRate(_ file: Int32) -> Double? {
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    let clock = ContinuousClock()
    let start = clock.now
    for offset in stride(from: 0, to: Self.trialBytes, by: buffer.count) {
      guard pread(file, &buffer, buffer.count, off_t(offset)) == buffer.count else { return nil }
    }
    return Double(Self.trialBytes) / ((clock.now - start) / .seconds(1))
  }
}
