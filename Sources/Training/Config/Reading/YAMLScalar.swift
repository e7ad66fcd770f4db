import Foundation

/// A single YAML value, by the rules of YAML 1.1 as PyYAML implements them (`yaml/resolver.py`).
/// The official trainer uses PyYAML, so `yes` is true, 010 is 8, and 1e-4 is a string that becomes
/// a number only if one is needed.
struct YAMLScalar {
  enum Value: Equatable {
    case null
    case bool(Bool)
    case integer(Int)
    case number(Double)
    case text(String)
    /// A date or a time.
    case timestamp
  }

  let value: Value
  /// The text in the file, without quotes.
  let text: String
  /// A value without quotes.
  let isPlain: Bool

  init(quoted text: String) {
    value = .text(text)
    self.text = text
    isPlain = false
  }

  init(plain text: String) {
    value = Self.resolve(text)
    self.text = text
    isPlain = true
  }

  private static func resolve(_ text: String) -> Value {
    switch text {
    case "", "~", "null", "Null", "NULL": return .null
    case "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON": return .bool(true)
    case "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF": return .bool(false)
    case ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF": return .number(.infinity)
    case "-.inf", "-.Inf", "-.INF": return .number(-.infinity)
    case ".nan", ".NaN", ".NAN": return .number(.nan)
    default: break
    }
    guard let first = text.utf8.first, "+-.0123456789".utf8.contains(first) else {
      return .text(text)
    }
    // The most common values need no patterns.
    if first != UInt8(ascii: "0"), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
      let value = Int(text)
    {
      return .integer(value)
    }
    if let number = number(text) { return .number(number) }
    if let integer = integer(text) { return integer }
    if text.wholeMatch(of: /[0-9]{4}-[0-9]{2}-[0-9]{2}/) != nil
      || text.wholeMatch(of: timestamp) != nil
    {
      return .timestamp
    }
    return .text(text)
  }

  private static var timestamp: Regex<Substring> {
    /[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?/
  }

  private static func number(_ text: String) -> Double? {
    let digits = text.replacing("_", with: "")
    if text.wholeMatch(
      of: /[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?/)
      != nil
    {
      return Double(digits)
    }
    guard text.wholeMatch(of: /[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*/) != nil else {
      return nil
    }
    return sexagesimal(digits) { Double($0) }
  }

  private static func integer(_ text: String) -> Value? {
    let digits = text.replacing("_", with: "")
    let isNegative = digits.hasPrefix("-")
    let magnitude = digits.drop { "+-".contains($0) }
    func value(_ magnitude: Substring, radix: Int) -> Value? {
      Int((isNegative ? "-" : "") + magnitude, radix: radix).map(Value.integer)
        ?? (radix == 10 ? Double(magnitude).map { .number(isNegative ? -$0 : $0) } : nil)
    }
    if text.wholeMatch(of: /[-+]?(?:0|[1-9][0-9_]*)/) != nil { return value(magnitude, radix: 10) }
    if text.wholeMatch(of: /[-+]?0b[01_]+/) != nil {
      return value(magnitude.dropFirst(2), radix: 2)
    }
    if text.wholeMatch(of: /[-+]?0x[0-9a-fA-F_]+/) != nil {
      return value(magnitude.dropFirst(2), radix: 16)
    }
    if text.wholeMatch(of: /[-+]?0[0-7_]+/) != nil { return value(magnitude.dropFirst(), radix: 8) }
    guard text.wholeMatch(of: /[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+/) != nil else { return nil }
    return sexagesimal(digits) { Double($0) }.flatMap(Int.init(exactly:)).map(Value.integer)
  }

  /// Parses a base-60 integer: 1:30 is 90.
  private static func sexagesimal(_ text: String, _ convert: (Substring) -> Double?) -> Double? {
    let isNegative = text.hasPrefix("-")
    var sum = 0.0
    for part in text.drop(while: { "+-".contains($0) }).split(separator: ":") {
      guard let value = convert(part) else { return nil }
      sum = sum * 60 + value
    }
    return isNegative ? -sum : sum
  }
}

/// Conversions to a wanted type by pydantic's lax rules, which the official trainer relies on.
extension YAMLScalar {
  /// The integer, from 3, 3.0, "3", "3.0", "1_000" or true.
  var asInteger: Int? {
    switch value {
    case .integer(let value): value
    case .number(let value): Int(exactly: value)
    case .bool(let value): value ? 1 : 0
    case .text(let text): Self.integerText(text)
    case .null, .timestamp: nil
    }
  }

  /// The number, from numbers, strings such as "1e-4", and true. It may be infinite or NaN.
  var asNumber: Double? {
    switch value {
    case .integer(let value): Double(value)
    case .number(let value): value
    case .bool(let value): value ? 1 : 0
    case .text(let text): Self.numberText(text)
    case .null, .timestamp: nil
    }
  }

  /// The boolean, from true, 1, 1.0, "yes" and similar values.
  var asBool: Bool? {
    switch value {
    case .bool(let value): value
    case .integer(let value): value == 0 || value == 1 ? value == 1 : nil
    case .number(let value): value == 0 || value == 1 ? value == 1 : nil
    case .text(let text):
      switch text.lowercased() {
      case "1", "on", "t", "true", "y", "yes": true
      case "0", "off", "f", "false", "n", "no": false
      default: nil
      }
    case .null, .timestamp: nil
    }
  }

  /// The string, only from a string: 1 and true need quotes.
  var asText: String? { if case .text(let text) = value { text } else { nil } }

  private static func integerText(_ text: String) -> Int? {
    let trimmed = text.trimmingCharacters(in: .whitespacesAndNewlines)
    guard trimmed.wholeMatch(of: /[-+]?[0-9]+(?:_[0-9]+)*(?:\.0+)?/) != nil else { return nil }
    return Int(trimmed.prefix { $0 != "." }.replacing("_", with: ""))
  }

  private static func numberText(_ text: String) -> Double? {
    let trimmed = text.trimmingCharacters(in: .whitespacesAndNewlines)
    if trimmed.wholeMatch(of: /[-+]?(?:inf|infinity|nan)/.ignoresCase()) != nil {
      return Double(trimmed)
    }
    guard !trimmed.hasPrefix("_"), !trimmed.hasSuffix("_"), !trimmed.contains("__") else {
      return nil
    }
    let digits = trimmed.replacing("_", with: "")
    guard digits.wholeMatch(of: /[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?/) != nil
    else { return nil }
    return Double(digits)
  }
}
