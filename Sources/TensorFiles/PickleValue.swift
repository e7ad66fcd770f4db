import Torch

/// A value of a restricted pickle: a tensor, a number, a string, or a container of them.
public indirect enum PickleValue: Sendable {
  case tensor(Tensor)
  case int(Int)
  case float(Double)
  case string(String)
  case bool(Bool)
  case none
  case list([PickleValue])
  case tuple([PickleValue])
  /// Entries in the file's order. If a key occurs twice, its last value is used.
  case dictionary([(key: PickleValue, value: PickleValue)])

  public var tensor: Tensor? { if case .tensor(let tensor) = self { tensor } else { nil } }
  public var int: Int? { if case .int(let value) = self { value } else { nil } }
  public var string: String? { if case .string(let value) = self { value } else { nil } }
  public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  public var isNone: Bool { if case .none = self { true } else { false } }

  /// An integer or a floating-point number.
  public var number: Double? {
    switch self {
    case .int(let value): Double(value)
    case .float(let value): value
    default: nil
    }
  }

  /// The elements of a list or a tuple.
  public var elements: [PickleValue]? {
    switch self {
    case .list(let elements), .tuple(let elements): elements
    default: nil
    }
  }

  public var members: [(key: PickleValue, value: PickleValue)]? {
    if case .dictionary(let members) = self { members } else { nil }
  }

  /// The value for a string key of a dictionary.
  public subscript(key: String) -> PickleValue? {
    members?.last { $0.key.string == key }?.value
  }

  /// The kind of value, for error messages.
  var kind: String {
    switch self {
    case .tensor: "a tensor"
    case .int: "an integer"
    case .float: "a floating-point number"
    case .string: "a text"
    case .bool: "a bool"
    case .none: "None"
    case .list: "a list"
    case .tuple: "a tuple"
    case .dictionary: "a dictionary"
    }
  }
}
