import Foundation
import Support
import TensorFiles

/// The configuration of a model in its checkpoint: a JSON object that is read key by key.
///
/// A value of the wrong type, or a required one that is missing, throws an error that names the
/// file and the key.
public struct Configuration: Sendable {
  /// The file of the configuration, for messages.
  public let file: String
  /// The path of this object in the file, `config.transformer`.
  public let path: String
  private let values: JSONObject
  /// Objects that come from other files.
  private var parts: [String: Configuration] = [:]

  /// - Throws: `Issue` if the text isn't a JSON object, or an object in it has two members of one
  ///   name.
  public init(json: String, file: String, path: String = "config") throws {
    let value: JSON
    do {
      value = try JSON(parsing: json)
    } catch {
      throw Issue(
        [.file(file), .name(path.displayed())],
        error.kind == .notJSON ? "is \(error)" : "can't be read: \(error.problem)")
    }
    guard case .object(let values) = value else {
      throw Issue([.file(file), .name(path.displayed())], "is not a JSON object")
    }
    self.init(values: values, file: file, path: path)
  }

  public init(values: JSONObject, file: String, path: String = "config") {
    self.values = values
    self.file = file
    self.path = path
  }

  /// A configuration in which some objects come from another file.
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

  /// Whether the key is present with the value null, which differs from a missing key.
  public func isNull(_ key: String) -> Bool { values[key] == .null }

  /// The max size of anything in a model: a width, a vocabulary, a sample rate. Products of two fit
  /// into an `Int` with room to spare; larger numbers mean damage.
  public static let maxSize = 1 << 20
  /// The limit on the number of layers, or of blocks of one kind, of a model.
  public static let maxLayers = 1024

  /// An integer in a range, which every caller must state: it bounds loops, allocations and
  /// products.
  ///
  /// - Throws: `Issue` that names the number and the range.
  public func int(_ key: String, default fallback: Int? = nil, in range: ClosedRange<Int>) throws
    -> Int
  {
    let number = try number(key, fallback.map(Double.init), "an integer")
    guard let value = Int(exactly: number) else {
      throw error(key, "must be an integer (got \(Self.text(number)))")
    }
    guard range.contains(value) else {
      throw error(
        key,
        "must be between \(range.lowerBound) and \(range.upperBound) (got \(Self.text(number)))")
    }
    return value
  }

  /// A size or a count, from 1.
  public func positive(_ key: String, default fallback: Int? = nil, upTo limit: Int = maxSize)
    throws -> Int
  {
    try int(key, default: fallback, in: 1...limit)
  }

  /// A number in a range.
  public func double(
    _ key: String, default fallback: Double? = nil, in range: ClosedRange<Double> = -1e30...1e30
  ) throws -> Double {
    let value = try number(key, fallback, "a number")
    guard range.contains(value) else {
      throw error(
        key,
        "must be between \(Self.text(range.lowerBound)) and \(Self.text(range.upperBound)) "
          + "(got \(Self.text(value)))")
    }
    return value
  }

  /// A number above 0, small enough that float32 arithmetic with it stays finite.
  public func positiveDouble(_ key: String, default fallback: Double? = nil) throws -> Double {
    try double(key, default: fallback, in: 1e-30...1e30)
  }

  private func number(_ key: String, _ fallback: Double?, _ expected: String) throws -> Double {
    try read(key, fallback, expected) { $0.double }
  }

  private static func text(_ number: Double) -> String {
    Int(exactly: number).map(String.init) ?? String(number)
  }

  public func bool(_ key: String, default fallback: Bool? = nil) throws -> Bool {
    try read(key, fallback, "true or false") { $0.bool }
  }

  public func string(_ key: String, default fallback: String? = nil) throws -> String {
    try read(key, fallback, "a string") { $0.string }
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

  /// A list of integers in a range, with as many entries as `count` allows.
  public func ints(
    _ key: String, default fallback: [Int]? = nil, in range: ClosedRange<Int> = 0...maxSize,
    count: ClosedRange<Int> = 0...256
  ) throws -> [Int] {
    let values = try read(key, fallback, "a list of integers") { value -> [Int]? in
      guard case .array(let items) = value else { return nil }
      let numbers = items.compactMap(\.int)
      return numbers.count == items.count ? numbers : nil
    }
    if let outside = values.first(where: { !range.contains($0) }) {
      throw error(
        key,
        "must hold integers between \(range.lowerBound) and \(range.upperBound) (got \(outside))")
    }
    guard count.contains(values.count) else {
      let expected =
        count.lowerBound == count.upperBound
        ? "\(count.lowerBound)" : "\(count.lowerBound) to \(count.upperBound)"
      throw error(key, "has \(values.count) entries, expected \(expected)")
    }
    return values
  }

  public func strings(_ key: String, default fallback: [String]? = nil) throws -> [String] {
    try read(key, fallback, "a list of strings") { value in
      guard case .array(let items) = value else { return nil }
      let strings = items.compactMap(\.string)
      return strings.count == items.count ? strings : nil
    }
  }

  /// A nested object; an empty one if it is missing and `isOptional`.
  public func object(_ key: String, isOptional: Bool = false) throws -> Configuration {
    if let part = parts[key] { return part }
    let nested = try read(key, isOptional ? JSONObject() : nil, "an object") { $0.object }
    return Configuration(values: nested, file: file, path: "\(path).\(key)")
  }

  /// A value of any kind; nil for a missing key.
  public func value(_ key: String) -> JSON? { values[key] }

  /// A list of values of any kind.
  public func array(
    _ key: String, default fallback: [JSON]? = nil, upTo limit: Int = 4096
  ) throws -> [JSON] {
    let items = try read(key, fallback, "a list") { $0.array }
    guard items.count <= limit else {
      throw error(key, "has \(items.count) entries, expected at most \(limit)")
    }
    return items
  }

  /// The object as JSON, keys in alphabetical order.
  public var json: String { JSON.object(values).text(JSONFormat(normalizesNumbers: true)) }

  /// A problem of one of this object's keys.
  public func error(_ key: String, _ problem: String) -> Issue {
    Issue([.file(parts[key]?.file ?? file), .name("\(path).\(key)".displayed())], problem)
  }

  private func read<Value>(
    _ key: String, _ fallback: Value?, _ expected: String, _ convert: (JSON) -> Value?
  ) throws -> Value {
    guard let value = values[key], value != .null else {
      guard let fallback else { throw error(key, "is missing") }
      return fallback
    }
    guard let converted = convert(value) else { throw error(key, "must be \(expected)") }
    return converted
  }
}
