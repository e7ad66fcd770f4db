import NN
import Support
import Yams

/// A value for writing; unlike in `JSON`, integers and floating-point numbers are distinct.
indirect enum ConfigurationValue: Sendable, Equatable {
  struct Entry: Sendable, Equatable {
    var key: String
    var value: ConfigurationValue
    /// Whether the official trainer lacks the key.
    var isExtension = false
    /// Whether the key is an extension at its default: files for the official trainer omit it, and
    /// a run that was started before the key existed has the same value.
    var isImplied = false
    /// Whether the results of a run depend on the key.
    var affectsResult = true

    init(_ key: String, _ value: ConfigurationValue) {
      self.key = key
      self.value = value
    }
  }

  case null
  case bool(Bool)
  case int(Int)
  case double(Double)
  case string(String)
  case list([ConfigurationValue])
  case mapping([Entry])

  init(_ json: JSON) {
    self =
      switch json {
      case .null: .null
      case .bool(let value): .bool(value)
      case .number(let value): value.int.map { .int($0) } ?? .double(value.double)
      case .string(let value): .string(value)
      case .array(let values): .list(values.map(Self.init))
      case .object(let values):
        .mapping(values.sorted { $0.key < $1.key }.map { Entry($0.key, Self($0.value)) })
      }
  }

  var json: JSON {
    switch self {
    case .null: .null
    case .bool(let value): .bool(value)
    case .int(let value): JSON(value)
    case .double(let value): JSON(value)
    case .string(let value): .string(value)
    case .list(let values): .array(values.map(\.json))
    case .mapping(let entries):
      .object(JSONObject(entries.map { (key: $0.key, value: $0.value.json) }))
    }
  }

  /// Writes strings in quotes, and floating-point numbers with a point and a signed exponent, so
  /// that every YAML reader, 1.1 or 1.2, reads the same types.
  var yaml: Node {
    func plain(_ text: String) -> Node { .scalar(.init(text, .implicit, .plain)) }
    func quoted(_ text: String) -> Node { .scalar(.init(text, .implicit, .doubleQuoted)) }
    switch self {
    case .null: return plain("null")
    case .bool(let value): return plain(value ? "true" : "false")
    case .int(let value): return plain(String(value))
    case .double(let value): return plain(Self.text(value))
    case .string(let value): return quoted(value)
    case .list(let values):
      let isFlat = values.allSatisfy { if case .mapping = $0 { false } else { true } }
      return .sequence(.init(values.map(\.yaml), .implicit, isFlat ? .flow : .block))
    case .mapping(let entries):
      let pairs = entries.map {
        (Self.isWord($0.key) ? plain($0.key) : quoted($0.key), $0.value.yaml)
      }
      return .mapping(.init(pairs, .implicit, entries.isEmpty ? .flow : .block))
    }
  }

  /// Whether a key needs no quotes.
  private static func isWord(_ key: String) -> Bool {
    key.wholeMatch(of: /[a-z_][a-z0-9_.]*/) != nil && YAMLScalar(plain: key).asText != nil
  }

  private static func text(_ value: Double) -> String {
    if value.isNaN { return ".nan" }
    if value.isInfinite { return value < 0 ? "-.inf" : ".inf" }
    let text = "\(value)"
    guard !text.contains("."), let exponent = text.firstIndex(of: "e") else { return text }
    return text.replacingCharacters(in: exponent..<exponent, with: ".0")
  }
}
