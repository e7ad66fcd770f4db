/// Learning rates by patterns of modules, in the order of the file: the first pattern that matches
/// counts.
public struct ModuleRates: Sendable, Equatable, ExpressibleByDictionaryLiteral {
  public struct Rate: Sendable, Equatable {
    public var pattern: String
    public var learningRate: Double
  }

  public private(set) var rates: [Rate] = []
  public var isEmpty: Bool { rates.isEmpty }

  public init() {}

  public init(dictionaryLiteral elements: (String, Double)...) {
    for (pattern, rate) in elements { set(pattern, rate) }
  }

  mutating func set(_ pattern: String, _ learningRate: Double) {
    rates.append(Rate(pattern: pattern, learningRate: learningRate))
  }
}

extension Rule<ModuleRates> {
  /// Keys of the user's choice.
  static func rates(_ range: NumberRange) -> Rule {
    .section(
      { reader in
        var rates = ModuleRates()
        // What is no number has been reported.
        for (key, _) in reader.all { reader.read(key, .number(range)).map { rates.set(key, $0) } }
        return rates
      }, write: { .mapping($0.rates.map { .init($0.pattern, .double($0.learningRate)) }) })
  }
}
