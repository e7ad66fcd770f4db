/// A value as it is written; unlike `JSONValue`, mappings have an order, and integers are not numbers with a point.
indirect enum ConfigurationValue: Sendable, Equatable {
  /// A key of a mapping, in the order of the text.
  struct Entry: Sendable, Equatable {
    var key: String
    var value: ConfigurationValue

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
}
