import Foundation
import LTX
import NN
import Support

/// The position of the value that a rule reads, and the receiver of problems.
struct RuleContext {
  /// `lora.target_modules[1]`
  let key: String
  let place: ConfigurationPlace
  let reading: ConfigurationReading

  func report(_ message: String) { reading.report(key, place, message) }

  func item(_ index: Int, _ node: ConfigurationNode) -> RuleContext {
    RuleContext(key: "\(key)[\(index)]", place: node.place, reading: reading)
  }
}

/// A rule for the values of a key: how to read, check and write them.
struct Rule<Value>: Sendable {
  /// - Returns: nil after a report.
  let read: @Sendable (ConfigurationNode, RuleContext) -> Value?
  let write: @Sendable (Value) -> ConfigurationValue

  /// - Parameter expected: a description that follows "must be".
  static func scalar(
    _ expected: String, _ convert: @escaping @Sendable (YAMLScalar) -> Value?,
    write: @escaping @Sendable (Value) -> ConfigurationValue
  ) -> Rule {
    Rule(
      read: { node, context in
        if case .scalar(let scalar) = node.content, let value = convert(scalar) { return value }
        context.report("must be \(expected) (got \(node.shown))")
        return nil
      }, write: write)
  }
}

/// The range of a number.
enum NumberRange: Sendable {
  case atLeast(Double)
  case above(Double)
  case from(Double, to: Double)
  case fromBelow(Double, Double)

  func contains(_ x: Double) -> Bool {
    switch self {
    case .atLeast(let low): x >= low
    case .above(let low): x > low
    case .from(let low, let high): x >= low && x <= high
    case .fromBelow(let low, let high): x >= low && x < high
    }
  }

  var words: String {
    func shown(_ x: Double) -> String { x == x.rounded() ? "\(Int(x))" : "\(x)" }
    return switch self {
    case .atLeast(let low): "of at least \(shown(low))"
    case .above(let low): "above \(shown(low))"
    case .from(let low, let high): "from \(shown(low)) to \(shown(high))"
    case .fromBelow(let low, let high): "from \(shown(low)) to below \(shown(high))"
    }
  }
}

extension Rule<Int> {
  static func integer(_ range: ClosedRange<Int>) -> Rule {
    let words =
      switch (range.lowerBound, range.upperBound) {
      case (.min, .max): "an integer"
      case (let low, .max): "an integer of at least \(low)"
      case (let low, let high): "an integer from \(low) to \(high)"
      }
    return scalar(
      words, { $0.asInteger.flatMap { range.contains($0) ? $0 : nil } }, write: { .int($0) })
  }
}

extension Rule<Double> {
  static func number(_ range: NumberRange) -> Rule {
    let rule = scalar(
      "a number \(range.words)", { $0.asNumber.flatMap { range.contains($0) ? $0 : nil } },
      write: { .double($0) })
    return Rule(
      read: { node, context in
        guard let number = rule.read(node, context) else { return nil }
        if number.isFinite { return number }
        context.report("must be a finite number (got \(node.shown))")
        return nil
      }, write: rule.write)
  }

  static var probability: Rule { number(.from(0, to: 1)) }
}

extension Rule<Bool> {
  static var flag: Rule { scalar("true or false", \.asBool, write: { .bool($0) }) }
}

extension Rule<String> {
  static var text: Rule {
    Rule(
      read: { node, context in
        guard case .scalar(let scalar) = node.content else {
          context.report("must be a string (got \(node.shown))")
          return nil
        }
        if let text = scalar.asText { return text }
        context.report(
          scalar.value == .null
            ? "must be a string (got null)"
            : "must be a string (got \(scalar.text), which YAML reads as another type). Put it in quotes"
        )
        return nil
      }, write: { .string($0) })
  }

  /// The path of a file or folder; `~` is the home directory.
  static var path: Rule { path(isOutput: false) }

  private static func path(isOutput: Bool) -> Rule {
    let rule = nonEmpty.map { NSString(string: $0).expandingTildeInPath }
    return Rule(
      read: { node, context in
        guard let path = rule.read(node, context) else { return nil }
        guard let problem = PathSyntax.problem(path, isOutput: isOutput) else { return path }
        context.report("\(path) \(problem)")
        return nil
      }, write: rule.write)
  }

  /// A path that is independent of the working directory.
  static var absolutePath: Rule {
    path(isOutput: true).map { URL(fileURLWithPath: $0).standardizedFileURL.path }
  }

  static var nonEmpty: Rule {
    Rule(
      read: { node, context in
        guard let text = text.read(node, context) else { return nil }
        if text.isEmpty { context.report("is empty") }
        return text.isEmpty ? nil : text
      }, write: { .string($0) })
  }

  private func map(_ change: @escaping @Sendable (String) -> String) -> Rule {
    let read = read
    return Rule(read: { read($0, $1).map(change) }, write: { .string($0) })
  }
}

extension Rule<MemoryBudget> {
  static var memoryBudget: Rule {
    scalar(
      "auto or a size such as 24GB", { $0.asText.flatMap { MemoryBudget($0) } },
      write: { .string($0.description) })
  }
}

extension Rule
where Value: RawRepresentable<String> & CaseIterable & Sendable, Value.AllCases: Sendable {
  static var choice: Rule { choice() }

  /// - Parameter aliases: other accepted strings, and their meanings.
  static func choice(_ aliases: [String: Value] = [:]) -> Rule {
    let names = Value.allCases.map(\.rawValue)
    return scalar(
      "one of \(names.joined(separator: ", "))",
      { scalar in
        if let text = scalar.asText { return Value(rawValue: text) }
        return scalar.isPlain ? aliases[scalar.text] : nil
      },
      write: { .string($0.rawValue) })
  }
}

extension Rule {
  /// A value or null.
  static func optional<Wrapped>(_ rule: Rule<Wrapped>) -> Rule where Value == Wrapped? {
    Rule(
      read: { node, context in node.isNull ? .some(nil) : rule.read(node, context).map { $0 } },
      write: { $0.map(rule.write) ?? .null })
  }

  static func list<Item>(of rule: Rule<Item>) -> Rule where Value == [Item] {
    Rule(
      read: { node, context in
        guard case .list(let nodes) = node.content else {
          context.report("must be a list (got \(node.shown))")
          return nil
        }
        let items = nodes.enumerated().map { rule.read($1, context.item($0, $1)) }
        return items.contains { $0 == nil } ? nil : items.compactMap { $0 }
      }, write: { .list($0.map(rule.write)) })
  }

  /// A section that is read as a whole.
  static func section(
    _ read: @escaping @Sendable (SectionReader) -> Value?,
    write: @escaping @Sendable (Value) -> ConfigurationValue
  ) -> Rule {
    Rule(
      read: { node, context in
        guard case .mapping(let entries) = node.content else {
          context.report(
            "must be a section of keys (got \(node.shown))"
              + (node.isNull ? ". Add keys or remove it" : ""))
          return nil
        }
        return read(
          SectionReader(entries, path: context.key, place: context.place, context.reading))
      }, write: write)
  }
}

extension Rule<[Int]> {
  /// A list with one integer for each name.
  static func integers(_ names: String..., in range: ClosedRange<Int>) -> Rule {
    let list = Rule.list(of: .integer(range))
    return Rule(
      read: { node, context in
        if case .list(let items) = node.content, items.count == names.count {
          return list.read(node, context)
        }
        context.report(
          "must be a list of \(names.count) integers: \(names.joined(separator: ", "))")
        return nil
      }, write: list.write)
  }
}

extension Rule<[String: JSON]> {
  /// Free-form keys and values.
  static var free: Rule {
    .section(
      { reader in
        var values: [String: JSON] = [:]
        for (key, node) in reader.all {
          if let number = node.freeNumber, !number.isFinite {
            reader.report(key, "must be a finite number (got \(node.shown))")
          } else {
            values[key] = JSON(node)
          }
        }
        return values
      },
      write: {
        .mapping($0.sorted { $0.key < $1.key }.map { .init($0.key, ConfigurationValue($0.value)) })
      })
  }
}

extension ConfigurationNode {
  /// The number in the node, or nil. A number that YAML reads as a string, such as 1e-6, counts.
  fileprivate var freeNumber: Double? {
    guard case .scalar(let scalar) = content else { return nil }
    return switch scalar.value {
    case .integer(let value): Double(value)
    case .number(let value): value
    case .text: scalar.isPlain ? scalar.asNumber : nil
    default: nil
    }
  }
}

extension JSON {
  fileprivate init(_ node: ConfigurationNode) {
    switch node.content {
    case .scalar(let scalar):
      switch scalar.value {
      case .null: self = .null
      case .bool(let value): self = .bool(value)
      case .integer(let value): self.init(value)
      case .number(let value): self.init(value)
      case .timestamp: self = .string(scalar.text)
      case .text(let text):
        self = node.freeNumber.map { JSON($0) } ?? .string(text)
      }
    case .list(let items): self = .array(items.map { JSON($0) })
    case .mapping(let entries):
      self = .object(JSONObject(entries.map { (key: $0.key, value: JSON($0.value)) }))
    }
  }
}
