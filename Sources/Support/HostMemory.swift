import Foundation

/// The memory of this machine.
public enum HostMemory {
  /// The bytes that programs can get without swapping, from `/proc/meminfo`; 0 if it can't be read.
  public static var availableBytes: Int {
    guard let text = try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8),
      let line = text.split(separator: "\n").first(where: { $0.hasPrefix("MemAvailable:") }),
      let kibibytes = line.split(separator: " ").dropFirst().first.flatMap({ Int($0) })
    else { return 0 }
    return kibibytes * 1024
  }
}

extension Int {
  /// A number of bytes in gigabytes: `15.8 GB`.
  public var gigabytes: String { "\((Double(self) / 1e8).rounded() / 10) GB" }
}
