import Foundation
import TensorFiles

/// A model's configuration as its checkpoint carries it: a JSON object that is read key by key.
///
/// A value of the wrong type, or a required one that is missing, throws an error that names the file and the key.
public struct Configuration: Sendable {
  /// Where the configuration comes from, for messages.
  public let file: String
  /// The path of this object in the file, `config.transformer`.
  public let path: String
  private let values: [String: JSONValue]
  /// Objects that come from other files.
  private var parts: [String: Configuration] = [:]

  /// - Throws: `ConfigurationError` when the text is not a JSON object.
  public init(json: String, file: String, path: String = "config") throws {
    let value: JSONValue
    do {
      value = try JSONDecoder().decode(JSONValue.self, from: Data(json.utf8))
    } catch {
      throw ConfigurationError(file: file, key: path, problem: "is not valid JSON")
    }
    guard case .object(let values) = value else {
      throw ConfigurationError(file: file, key: path, problem: "is not a JSON object")
    }
    self.init(values: values, file: file, path: path)
  }

  init(values: [String: JSONValue], file: String, path: String) {
    self.values = values
    self.file = file
    self.path = path
  }

  /// A configuration in which some objects are another file's.
  public func replacing(_ key: String, by part: Configuration?) -> Configuration {
    var members = values
    members[key] = part.map { .object($0.values) }
    var combined = Configuration(values: members, file: file, path: path)
    combined.parts = parts
    combined.parts[key] = part
    return combined
  }

  /// The names of this object's values, in alphabetical order.
  public var keys: [String] { values.keys.sorted() }

  public func has(_ key: String) -> Bool { values[key].map { $0 != .null } ?? false }

  /// Whether the key is there with the value null, which means something else than a key that is not there.
  public func isNull(_ key: String) -> Bool { values[key] == .null }

  public func int(_ key: String, default fallback: Int? = nil) throws -> Int {
    try read(key, fallback, "an integer") { Self.integer($0) }
  }

  public func positive(_ key: String, default fallback: Int? = nil) throws -> Int {
    let value = try int(key, default: fallback)
    guard value > 0 else { throw error(key, "is \(value); it must be positive") }
    return value
  }

  public func double(_ key: String, default fallback: Double? = nil) throws -> Double {
    try read(key, fallback, "a number") { if case .number(let n) = $0 { n } else { nil } }
  }

  public func bool(_ key: String, default fallback: Bool? = nil) throws -> Bool {
    try read(key, fallback, "true or false") { if case .bool(let b) = $0 { b } else { nil } }
  }

  public func string(_ key: String, default fallback: String? = nil) throws -> String {
    try read(key, fallback, "a string") { if case .string(let s) = $0 { s } else { nil } }
  }

  /// One of the names of an enumeration's cases.
  public func choice<Choice: RawRepresentable<String> & CaseIterable>(
    _ key: String, default fallback: Choice
  ) throws -> Choice {
    let name = try string(key, default: fallback.rawValue)
    guard let choice = Choice(rawValue: name) else {
      let all = Choice.allCases.map(\.rawValue).joined(separator: ", ")
      throw error(key, "is \"\(name)\"; it must be one of \(all)")
    }
    return choice
  }

  public func ints(_ key: String, default fallback: [Int]? = nil) throws -> [Int] {
    try read(key, fallback, "a list of integers") { value in
      guard case .array(let items) = value else { return nil }
      let numbers = items.compactMap(Self.integer)
      return numbers.count == items.count ? numbers : nil
    }
  }

  public func strings(_ key: String, default fallback: [String]? = nil) throws -> [String] {
    try read(key, fallback, "a list of strings") { value in
      guard case .array(let items) = value else { return nil }
      let strings = items.compactMap { if case .string(let s) = $0 { s } else { nil } }
      return strings.count == items.count ? strings : nil
    }
  }

  /// A nested object; an empty one if it is missing and `isOptional`.
  public func object(_ key: String, isOptional: Bool = false) throws -> Configuration {
    if let part = parts[key] { return part }
    let nested = try read(key, isOptional ? [:] : nil, "an object") { value -> [String: JSONValue]? in
      if case .object(let o) = value { o } else { nil }
    }
    return Configuration(values: nested, file: file, path: "\(path).\(key)")
  }

  /// A list as plain values.
  public func array(_ key: String, default fallback: [JSONValue]? = nil) throws -> [JSONValue] {
    try read(key, fallback, "a list") { if case .array(let a) = $0 { a } else { nil } }
  }

  /// The object as JSON, keys in alphabetical order.
  public func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(JSONValue.object(values)), as: UTF8.self)
  }

  /// An error about one of this object's keys.
  public func error(_ key: String, _ problem: String) -> ConfigurationError {
    ConfigurationError(file: parts[key]?.file ?? file, key: "\(path).\(key)", problem: problem)
  }

  /// Sizes of models fit into 32 bits, and products of two of them into an `Int`; larger ones are taken for damage.
  private static func integer(_ value: JSONValue) -> Int? {
    guard case .number(let number) = value else { return nil }
    return Int32(exactly: number).map(Int.init)
  }

  private func read<Value>(
    _ key: String, _ fallback: Value?, _ expected: String, _ convert: (JSONValue) -> Value?
  ) throws -> Value {
    guard let value = values[key], value != .null else {
      guard let fallback else { throw error(key, "is missing") }
      return fallback
    }
    guard let converted = convert(value) else { throw error(key, "must be \(expected)") }
    return converted
  }
}

public struct ConfigurationError: Error, CustomStringConvertible, Sendable {
  public let file: String
  public let key: String
  public let problem: String

  public init(file: String, key: String, problem: String) {
    self.file = file
    self.key = key
    self.problem = problem
  }

  public var description: String { "\(file): \(key.displayed()) \(problem)" }
}

/// A JSON value of any kind.
public enum JSONValue: Sendable, Equatable, Codable {
  case null
  case bool(Bool)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])

  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let value = try? container.decode(Bool.self) {
      self = .bool(value)
    } else if let value = try? container.decode(Double.self) {
      self = .number(value)
    } else if let value = try? container.decode(String.self) {
      self = .string(value)
    } else if let value = try? container.decode([JSONValue].self) {
      self = .array(value)
    } else {
      self = .object(try container.decode([String: JSONValue].self))
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .null: try container.encodeNil()
    case .bool(let value): try container.encode(value)
    case .number(let value):
      if let integer = Int(exactly: value) {
        try container.encode(integer)
      } else {
        try container.encode(value)
      }
    case .string(let value): try container.encode(value)
    case .array(let value): try container.encode(value)
    case .object(let value): try container.encode(value)
    }
  }
}
