/// Random values that are the same on every machine for a seed (SplitMix64).
struct DemoRandom: RandomNumberGenerator {
  private var state: UInt64

  /// - Parameter purpose: Distinguishes independent sequences of one seed.
  init(seed: UInt64, purpose: Purpose) {
    state = Self.mix(seed &+ Self.mix(purpose.rawValue))
  }

  enum Purpose: UInt64 {
    case scenes = 1
    case motion, shades, grain, snow, tone, caption
  }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    return Self.mix(state)
  }

  /// The finalizer of SplitMix64, a hash of 64 bits.
  static func mix(_ value: UInt64) -> UInt64 {
    var z = value
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// A uniform value in [0, 1).
  mutating func unit() -> Double { Double(next() >> 11) / 9_007_199_254_740_992 }

  mutating func uniform(_ low: Double, _ high: Double) -> Double { low + (high - low) * unit() }

  /// Whether an event of a probability happens.
  mutating func happens(_ probability: Double) -> Bool { unit() < probability }

  /// An index below a positive count. The modulo's bias is negligible for small counts.
  mutating func index(below count: Int) -> Int { Int(next() % UInt64(max(1, count))) }

  /// An element of a list; `fallback` if the list is empty.
  mutating func pick<Element>(_ list: [Element], or fallback: Element) -> Element {
    list.isEmpty ? fallback : list[index(below: list.count)]
  }
}

extension DemoRandom {
  /// A word of a list, or an empty string if the list is empty.
  mutating func word(_ list: [String]) -> String { pick(list, or: "") }
}
