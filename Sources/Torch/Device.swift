import CTorch

/// The device that holds a tensor's elements: `cpu`, `cuda:0`.
public enum Device: Hashable, Sendable, CustomStringConvertible {
  case cpu
  case cuda(Int)

  /// Parses `cpu`, `cuda` (the first GPU) or `cuda:N`.
  ///
  /// - Throws: `TorchError` of kind `.device` that lists the allowed values.
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

  /// Makes sure that the device can be used; for CUDA, loads libtorch's CUDA part.
  ///
  /// This must come before the first operation on the CPU. Some operations set libtorch up for the
  /// life of the process, and if CUDA is not loaded then, without CUDA.
  ///
  /// - Throws: `TorchError` of kind `.device` that says why CUDA or the GPU can't be used.
  public func prepare() throws {
    guard case .cuda(let index) = self else { return }
    try check(ct_cuda_load())
    try check(ct_cuda_require(Int32(clamping: index)))
  }

  /// The number of CUDA GPUs that this process sees.
  ///
  /// - Throws: `TorchError` of kind `.device` if CUDA is not installed or was loaded too late.
  public static func cudaCount() throws -> Int {
    try check(ct_cuda_load())
    return Int(ct_cuda_device_count())
  }

  /// The memory of a device's tensors: requested bytes, without the allocator's reserve.
  public struct MemoryStatistics: Sendable {
    public var liveBytes: Int
    /// The maximum of live bytes since the last `resetPeakMemory()`.
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

/// The number of threads that one operation on the CPU may use. A setting of the whole process.
public enum Threads {
  public static var count: Int {
    get { Int(ct_thread_count()) }
    set { ct_set_thread_count(Int32(clamping: max(newValue, 1))) }
  }
}

/// The libtorch that this program uses.
public enum LibTorch {
  public static var version: String { String(cString: ct_version()) }

  /// The path of the loaded library; empty if it is not loaded.
  public static var path: String { String(cString: ct_library_path()) }

  /// The vector instructions that it uses on this processor, such as `AVX2`; `DEFAULT` for none
  /// beyond those that every processor has.
  public static var vectorInstructions: String { String(cString: ct_vector_instructions()) }
}
