import CTorch

/// A CUDA GPU as its driver describes it.
public struct GPU: Sendable {
  /// Such as `NVIDIA H200`; empty if the driver can't be asked.
  public let name: String
  /// Nil if the driver can't be asked.
  public let capability: ComputeCapability?
  public let multiprocessors: Int
  /// The bytes of the whole device that no process uses.
  public let freeBytes: Int
  public let totalBytes: Int
}

/// The version of a GPU's instruction set, such as 9.0.
public struct ComputeCapability: Comparable, Sendable, CustomStringConvertible {
  public let major: Int
  public let minor: Int

  public init(_ major: Int, _ minor: Int) {
    (self.major, self.minor) = (major, minor)
  }

  public static func < (a: ComputeCapability, b: ComputeCapability) -> Bool {
    (a.major, a.minor) < (b.major, b.minor)
  }

  public var description: String { "\(major).\(minor)" }

  /// The first GPUs with bfloat16 units, and with attention kernels for it in libtorch.
  public static let bfloat16 = ComputeCapability(8, 0)
}

extension Device {
  /// Describes a GPU; nil for the CPU. Call `prepare()` first.
  public func gpu() throws -> GPU? {
    guard case .cuda(let index) = self else { return nil }
    var found = ct_cuda_properties()
    try check(ct_cuda_properties_find(Int32(clamping: index), &found))
    return GPU(
      name: text(found.name),
      capability: found.major > 0 ? ComputeCapability(Int(found.major), Int(found.minor)) : nil,
      multiprocessors: Int(found.multiprocessors), freeBytes: Int(found.free_bytes),
      totalBytes: Int(found.total_bytes))
  }

  /// The reason why models shouldn't compute in bfloat16 on this device, to be read after "but";
  /// nil if they can. Call `prepare()` first.
  ///
  /// Older GPUs emulate bfloat16, and have no fused attention for it: the score matrices of a clip
  /// would fill their memory. Weights may be stored in bfloat16, fp8 or int8 on any GPU.
  public func bfloat16Problem() throws -> String? {
    guard let gpu = try gpu(), let capability = gpu.capability, capability < .bfloat16 else {
      return nil
    }
    let title = gpu.name.isEmpty ? description : "\(self) (\(gpu.name))"
    return "\(title) has no bfloat16 units (compute capability \(capability), expected "
      + "\(ComputeCapability.bfloat16) or later)"
  }

  /// Waits until everything that was queued on the device is done.
  public func synchronize() throws { try check(ct_synchronize(c)) }
}

/// The NVIDIA driver, and the CUDA version that libtorch needs from it.
public struct CUDADriver: Sendable {
  /// The CUDA version that libtorch uses, such as `13.0`; nil without CUDA's runtime.
  public let neededCUDA: String?
  /// The newest CUDA version that the driver supports; nil without a driver.
  public let supportedCUDA: String?
  /// The driver's own version, such as `580.65.06`; nil without one.
  public let version: String?

  /// The driver of this machine.
  public init() {
    var found = ct_cuda_driver()
    ct_cuda_driver_find(&found)
    func cuda(_ version: Int32) -> String? {
      version > 0 ? "\(version / 1000).\(version % 1000 / 10)" : nil
    }
    let version = text(found.version)
    (neededCUDA, supportedCUDA) = (cuda(found.runtime), cuda(found.supported))
    self.version = version.isEmpty ? nil : version
  }
}

/// The kernel that computes attention.
public enum AttentionKernel: String, Sendable {
  /// Computes whole score matrices, whose size is the square of the number of tokens.
  case unfused
  case flash
  /// libtorch's memory-efficient attention.
  case efficient
  case cudnn

  /// The kernel that `Tensor.scaledDotProductAttention` chooses for its arguments.
  public static func choice(
    _ query: Tensor, _ key: Tensor, _ value: Tensor, mask: Tensor? = nil
  ) throws -> AttentionKernel {
    var choice = CT_ATTENTION_UNFUSED
    try check(
      ct_attention_choice(query.handle, key.handle, value.handle, mask?.handle, &choice))
    return switch choice {
    case CT_ATTENTION_FLASH: .flash
    case CT_ATTENTION_EFFICIENT: .efficient
    case CT_ATTENTION_CUDNN: .cudnn
    default: .unfused
    }
  }
}

/// The text of a fixed array of characters in C, which ends with a zero.
private func text<Characters>(_ characters: Characters) -> String {
  withUnsafeBytes(of: characters) { bytes in
    String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
  }
}
