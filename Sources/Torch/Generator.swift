import CTorch

/// A source of random numbers with its own state. Nothing in swift-ltx uses the global generator.
///
/// The same seed gives the same numbers on the same kind of device. They equal those of PyTorch's
/// `torch.Generator` on that device.
public final class Generator: @unchecked Sendable {
  let handle: OpaquePointer
  public let device: Device

  public init(seed: UInt64, device: Device = .cpu) throws {
    try device.prepare()
    var handle: OpaquePointer?
    try check(ct_generator_new(device.c, seed, &handle))
    self.handle = handle!
    self.device = device
  }

  deinit {
    ct_generator_free(handle)
  }

  /// Restarts from a seed.
  public func reseed(_ seed: UInt64) { ct_generator_set_seed(handle, seed) }

  /// The complete state for a checkpoint: a uint8 tensor.
  public func state() throws -> Tensor {
    try produce { ct_generator_get_state(handle, $0) }
  }

  /// Restores a stored state.
  public func restore(_ state: Tensor) throws {
    try check(ct_generator_set_state(handle, state.handle))
  }

  /// Standard normal random numbers.
  public func normal(_ shape: [Int], dtype: DType = .float32) throws -> Tensor {
    try random(CT_NORMAL, shape, dtype)
  }

  /// Uniform random numbers in [0, 1).
  public func uniform(_ shape: [Int], dtype: DType = .float32) throws -> Tensor {
    try random(CT_UNIFORM, shape, dtype)
  }

  /// The integers 0 ..< count in random order, int64, on the CPU.
  public func permutation(_ count: Int) throws -> Tensor {
    try produce { ct_random_permutation(Int64(count), handle, $0) }
  }

  private func random(_ distribution: ct_distribution, _ shape: [Int], _ dtype: DType) throws
    -> Tensor
  {
    try withIntegers(shape) { sizes, rank in
      try produce { ct_random(distribution, sizes, rank, dtype.c, handle, $0) }
    }
  }
}

/// Derives the seeds of a run's generators, each from the seed of the run and the generator's
/// purpose.
public enum RandomSeed {
  /// SplitMix64 over the parts (Steele et al., "Fast Splittable Pseudorandom Number Generators",
  /// 2014).
  public static func mix(_ seed: UInt64, _ purpose: String, _ number: Int = 0) -> UInt64 {
    var state = seed
    for part in purpose.utf8.map(UInt64.init) + [UInt64(bitPattern: Int64(number))] {
      state = (state ^ part) &+ 0x9E37_79B9_7F4A_7C15
      state = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
      state = (state ^ (state >> 27)) &* 0x94D0_49BB_1331_11EB
      state ^= state >> 31
    }
    return state
  }
}
