import CTorch

/// The device of a tensor's elements: `cpu`, `cuda:0`.
public enum Device: Hashable, Sendable, CustomStringConvertible {
  case cpu
  case cuda(Int)

  /// Reads `cpu`, `cuda` (the first one) or `cuda:N`.
  ///
  /// - Throws: `TorchError` of kind `.device` that says what is allowed.
  public init(_ text: String) throws {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    switch (parts.first, parts.count) {
    case ("cpu", 1): self = .cpu
    case ("cuda", 1): self = .cuda(0)
    case ("cuda", 2):
      guard let index = Int(parts[1]), (0..<128).contains(index) else { fallthrough }
      self = .cuda(index)
    default:
      throw TorchError(
        .device, operation: "device",
        message: "unknown device \"\(text)\"; use cpu, cuda or cuda:N")
    }
  }

  public var description: String {
    switch self {
    case .cpu: "cpu"
    case .cuda(let index): "cuda:\(index)"
    }
  }

  var c: ct_device {
    switch self {
    case .cpu: ct_device(kind: CT_CPU, index: 0)
    case .cuda(let index): ct_device(kind: CT_CUDA, index: Int32(index))
    }
  }

  init(_ c: ct_device) {
    self = c.kind == CT_CUDA ? .cuda(Int(c.index)) : .cpu
  }

  /// Makes sure that the device can be used, loading libtorch's CUDA part for a CUDA one.
  ///
  /// - Throws: `TorchError` of kind `.device` if CUDA or the GPU is missing.
  public func prepare() throws {
    guard case .cuda(let index) = self else { return }
    let count = try Self.cudaCount()
    guard index < count else {
      throw TorchError(
        .device, operation: "device",
        message: "there is no \(self): "
          + (count == 0
            ? "no CUDA GPU was found; set `device` to cpu"
            : "this machine has \(count) CUDA GPU(s)")
      )
    }
  }

  /// The number of CUDA GPUs that this process sees.
  ///
  /// - Throws: `TorchError` of kind `.device` when CUDA is not installed.
  public static func cudaCount() throws -> Int {
    try check(ct_cuda_load())
    return Int(ct_cuda_device_count())
  }

  /// Memory that tensors on a device hold: bytes asked for, not what an allocator keeps in reserve.
  public struct MemoryStatistics: Sendable {
    public var liveBytes: Int
    /// The most held at once since the last `resetPeakMemory()`.
    public var peakBytes: Int
  }

  public func memory() throws -> MemoryStatistics {
    var statistics = ct_memory_statistics()
    try check(ct_memory(c, &statistics))
    return MemoryStatistics(
      liveBytes: Int(statistics.live_bytes), peakBytes: Int(statistics.peak_bytes))
  }

  public func resetPeakMemory() throws {
    try check(ct_memory_reset_peak(c))
  }
}

/// Threads that one operation on the CPU may use. A setting of the whole process.
public enum Threads {
  public static var count: Int {
    get { Int(ct_thread_count()) }
    set { ct_set_thread_count(Int32(clamping: max(newValue, 1))) }
  }
}

/// The libtorch that this program runs on.
public enum LibTorch {
  public static var version: String { String(cString: ct_version()) }
}
