import Foundation

/// The memory of this machine, in bytes.
public struct HostMemory: Sendable {
  public let totalBytes: Int
  /// The memory that programs can get without swapping.
  public let availableBytes: Int
  /// The limit of this container; nil without one that is below the total.
  public let limitBytes: Int?

  /// Reads `/proc/meminfo` and the limit of the control group; nil if the system doesn't say.
  public init?() {
    guard let text = try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8) else {
      return nil
    }
    func bytes(_ key: String) -> Int? {
      let line = text.split(separator: "\n").first { $0.hasPrefix("\(key):") }
      return line?.split(separator: " ").dropFirst().first.flatMap { Int($0) }.map { $0 * 1024 }
    }
    guard let total = bytes("MemTotal"), let available = bytes("MemAvailable") else { return nil }
    (totalBytes, availableBytes) = (total, available)
    // Outside of a container there is no such file, or it says "max".
    limitBytes = (try? String(contentsOfFile: "/sys/fs/cgroup/memory.max", encoding: .utf8))
      .flatMap { Int($0.trimmingCharacters(in: .whitespacesAndNewlines)) }
      .flatMap { $0 < total ? $0 : nil }
  }

  /// The memory that this process can still get, as far as the system says; otherwise 0.
  public static var usableBytes: Int {
    HostMemory().map { min($0.availableBytes, $0.limitBytes ?? .max) } ?? 0
  }
}

extension Int {
  /// A number of bytes in gigabytes, `15.8 GB`; less than a tenth of one in megabytes.
  public var gigabytes: String {
    self < 100_000_000
      ? "\((Double(self) / 1e5).rounded() / 10) MB" : "\((Double(self) / 1e8).rounded() / 10) GB"
  }
}
