import NN
import Support

/// Reads options by name and collects all problems.
public struct OptionReader {
  private let values: [String: JSON]
  /// The owner of the options, for messages: `adamw`.
  private let owner: String
  private var allowed: [String] = []
  private var problems: [Issue] = []

  public init(_ values: [String: JSON], of owner: String) {
    self.values = values
    self.owner = owner
  }

  /// Sets `option` to the given value, if there is one.
  ///
  /// - Parameters:
  ///   - isAllowed: Whether a number is allowed.
  ///   - rule: The same rule in words, to follow "must be".
  public mutating func number(
    _ key: String, _ option: inout Double, _ rule: String, _ isAllowed: (Double) -> Bool
  ) {
    read(key, &option, rule) { value in
      if let number = value.double, isAllowed(number) { number } else { nil }
    }
  }

  public mutating func nonNegative(_ key: String, _ option: inout Double) {
    number(key, &option, "a number of at least 0") { $0 >= 0 && $0.isFinite }
  }

  public mutating func positive(_ key: String, _ option: inout Double) {
    number(key, &option, "a number above 0") { $0 > 0 && $0.isFinite }
  }

  /// Reads the decay of an average.
  public mutating func decay(_ key: String, _ option: inout Double) {
    number(key, &option, Self.decayRule) { Self.isDecay($0) }
  }

  /// Reads a decay, or null for none.
  public mutating func optionalDecay(_ key: String, _ option: inout Double?) {
    read(key, &option, "\(Self.decayRule), or null") { value in
      switch value {
      case .null: .some(nil)
      case .number(let number) where Self.isDecay(number.double): number.double
      default: nil
      }
    }
  }

  public mutating func integer(_ key: String, _ option: inout Int, in range: ClosedRange<Int>) {
    let rule =
      range.upperBound == .max
      ? "an integer of at least \(range.lowerBound)"
      : "an integer from \(range.lowerBound) to \(range.upperBound)"
    read(key, &option, rule) { value in
      guard let integer = value.int else { return nil }
      return range.contains(integer) ? integer : nil
    }
  }

  public mutating func bool(_ key: String, _ option: inout Bool) {
    read(key, &option, "true or false") { $0.bool }
  }

  public mutating func choice<Choice: RawRepresentable<String> & CaseIterable>(
    _ key: String, _ option: inout Choice
  ) {
    read(key, &option, "one of \(Choice.allCases.map(\.rawValue).joined(separator: ", "))") {
      value in
      if case .string(let name) = value { Choice(rawValue: name) } else { nil }
    }
  }

  /// Reads a list with a fixed count of numbers.
  public mutating func numbers(
    _ key: String, _ options: inout [Double], _ rule: String, _ isAllowed: (Double) -> Bool
  ) {
    let count = options.count
    read(key, &options, "a list of \(count) numbers, each \(rule)") { value in
      guard case .array(let items) = value, items.count == count else { return nil }
      let numbers = items.compactMap { item -> Double? in
        if let number = item.double, isAllowed(number) { number } else { nil }
      }
      return numbers.count == count ? numbers : nil
    }
  }

  /// Reads the two decays of Adam's moments, or of Lion's.
  public mutating func betas(_ key: String = "betas", _ beta1: inout Double, _ beta2: inout Double)
  {
    var both = [beta1, beta2]
    numbers(key, &both, Self.decayRule, Self.isDecay)
    (beta1, beta2) = (both[0], both[1])
  }

  public mutating func report(_ key: String, _ problem: String) {
    problems.append(Issue([.name(key)], problem))
  }

  /// - Throws: All problems, including options that were never requested.
  public func finish() throws(Issues) {
    let names =
      allowed.isEmpty
      ? "it takes none" : "it takes \(allowed.joined(separator: ", "))"
    let unknown = values.keys.filter { !allowed.contains($0) }.sorted().map {
      Issue([.name($0)], "is not an option of \(owner); \(names)")
    }
    if !(unknown + problems).isEmpty { throw Issues(unknown + problems) }
  }

  private static let decayRule = "a number from 0 to below 1"
  private static func isDecay(_ number: Double) -> Bool { number >= 0 && number < 1 }

  private mutating func read<Value>(
    _ key: String, _ option: inout Value, _ rule: String, _ convert: (JSON) -> Value?
  ) {
    allowed.append(key)
    guard let given = values[key] else { return }
    if let value = convert(given) {
      option = value
    } else {
      report(key, "must be \(rule)")
    }
  }
}
