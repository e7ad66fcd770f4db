import Support
import Torch

/// The memory of a device that a plan may use.
public enum MemoryBudget: Sendable, Equatable, CustomStringConvertible {
  /// The memory that is free when the work starts.
  case automatic
  case bytes(Int)

  /// The units of sizes: powers of 1000 like the sizes of cards, and powers of 1024.
  private static let units: [(name: String, bytes: Double)] = [
    ("gib", 0x1p30), ("mib", 0x1p20), ("gb", 1e9), ("mb", 1e6), ("g", 1e9), ("m", 1e6),
  ]

  /// Parses `auto`, or a size with its unit: `24GB`, `22.5GiB`, `800MB`.
  ///
  /// Nil for anything else.
  public init?(_ text: String) {
    let text = text.lowercased().filter { $0 != " " }
    if text == "auto" {
      self = .automatic
      return
    }
    guard let unit = Self.units.first(where: { text.hasSuffix($0.name) }),
      let number = Double(text.dropLast(unit.name.count)), number > 0,
      let bytes = Int(exactly: (number * unit.bytes).rounded())
    else { return nil }
    self = .bytes(bytes)
  }

  public var description: String {
    switch self {
    case .automatic: "auto"
    case .bytes(let bytes): "\(Double(bytes) / 1e9)GB"
    }
  }

  /// The bytes that tensors may take on the device.
  ///
  /// Half a gigabyte of free memory is left to the work space of libraries, and a predicted peak may
  /// be 5 % too low.
  ///
  /// - Throws: `TorchError` if the device can't be asked.
  public func tensorBytes(on device: Device) throws -> Int {
    let bytes: Int
    switch self {
    case .automatic:
      bytes = (try device.gpu()?.freeBytes ?? HostMemory.usableBytes) - 500_000_000
    case .bytes(let limit): bytes = limit
    }
    return Int(Double(max(0, bytes)) / 1.05)
  }
}
