/// Seeds of the many generators of a run, each a function of the run's one seed and of what it is
/// for.
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
