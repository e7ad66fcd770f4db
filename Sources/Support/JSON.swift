import Foundation

/// A JSON value. Objects keep the order of their members, numbers their text.
public enum JSON: Sendable, Equatable {
  case null
  case bool(Bool)
  case number(JSONNumber)
  case string(String)
  case array([JSON])
  case object(JSONObject)
}

extension JSON {
  /// A number. JSON has only finite ones, so the others become the strings `NaN`, `Infinity` and
  /// `-Infinity`.
  public init(_ value: Double) {
    self =
      JSONNumber(value).map(JSON.number)
      ?? .string(value.isNaN ? "NaN" : value < 0 ? "-Infinity" : "Infinity")
  }

  public init(_ value: some BinaryInteger) { self = .number(JSONNumber(value)) }

  /// The string, or null for nil.
  public init(_ value: String?) { self = value.map(JSON.string) ?? .null }

  /// An object from a dictionary, its keys in alphabetical order.
  @_disfavoredOverload
  public static func object(_ members: [String: JSON]) -> JSON { .object(JSONObject(members)) }

  /// The value of an object's member; nil if there is no such member, or the value isn't an object.
  public subscript(_ key: String) -> JSON? { object?[key] }

  public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  public var string: String? { if case .string(let value) = self { value } else { nil } }
  public var array: [JSON]? { if case .array(let value) = self { value } else { nil } }
  public var object: JSONObject? { if case .object(let value) = self { value } else { nil } }
  public var double: Double? { if case .number(let value) = self { value.double } else { nil } }
  /// A number without a fraction in the range of `Int`.
  public var int: Int? { if case .number(let value) = self { value.int } else { nil } }

  /// The kind of the value, for messages: `a string`.
  public var kind: String {
    switch self {
    case .null: "null"
    case .bool: "a boolean"
    case .number: "a number"
    case .string: "a string"
    case .array: "a list"
    case .object: "an object"
    }
  }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
  ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral,
  ExpressibleByNilLiteral
{
  public init(stringLiteral value: String) { self = .string(value) }
  public init(integerLiteral value: Int) { self.init(value) }
  public init(floatLiteral value: Double) { self.init(value) }
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  public init(nilLiteral: ()) { self = .null }
  public init(arrayLiteral elements: JSON...) { self = .array(elements) }
  public init(dictionaryLiteral elements: (String, JSON)...) {
    self = .object(JSONObject(elements.map { (key: $0.0, value: $0.1) }))
  }
}

/// A number with the digits of its JSON text, so that no precision is lost. Numbers are equal if
/// their values are.
public struct JSONNumber: Sendable, Equatable {
  /// The number's JSON text.
  public let text: String

  /// - Precondition: The text is a JSON number in the range of `Double`.
  init(unchecked text: String) { self.text = text }

  public init(_ value: some BinaryInteger) { text = String(value) }

  /// The shortest digits that give the same number; nil for a number that is not finite.
  public init?(_ value: Double) {
    guard value.isFinite else { return nil }
    text = "\(value)"
  }

  public init?(_ value: Float) {
    guard value.isFinite else { return nil }
    text = "\(value)"
  }

  /// The nearest double-precision number.
  public var double: Double { Double(text) ?? .nan }

  /// The value, if it has no fraction and is in the range of `Int`.
  public var int: Int? { Int(text) ?? Int(exactly: double) }

  public static func == (a: JSONNumber, b: JSONNumber) -> Bool {
    if a.text == b.text { return true }
    // Beyond 2^53, different integers may be the same double.
    if let a = Int(a.text), let b = Int(b.text) { return a == b }
    return a.double == b.double
  }

  /// The text of the value as Swift, Python and Foundation write it: the shortest digits, and
  /// integers without a point.
  public var normalized: String {
    if Int(text) != nil { return text == "-0" ? "0" : text }
    if let integer = Int(exactly: double) { return String(integer) }
    return "\(double)"
  }
}

extension JSONNumber: ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral {
  public init(integerLiteral value: Int) { self.init(value) }
  public init(floatLiteral value: Double) { text = "\(value)" }
}

/// The members of an object in their order. Names are compared by their scalars: a vocabulary has
/// both U+00C5 and U+212B, which Swift's `String` considers equal.
public struct JSONObject: Sendable {
  public typealias Element = (key: String, value: JSON)

  private var members: [Element] = []
  /// The index of each name, once there are too many to search.
  private var places: [ExactString: Int] = [:]
  private static let searchedCount = 8

  public init() {}

  /// Members in their order; if several have the same name, the last one is used.
  public init(_ members: some Sequence<Element>) {
    for member in members { self[member.key] = member.value }
  }

  /// The members of a dictionary, in alphabetical order.
  public init(_ members: [String: JSON]) {
    self.init(members.sorted { $0.key < $1.key }.map { (key: $0.key, value: $0.value) })
  }

  public subscript(_ key: String) -> JSON? {
    get { index(of: key).map { members[$0].value } }
    set {
      switch (index(of: key), newValue) {
      case (let index?, let value?): members[index].value = value
      case (nil, let value?): add(key, value)
      case (let index?, nil):
        members.remove(at: index)
        places = [:]
        indexIfLarge()
      case (nil, nil): break
      }
    }
  }

  /// Adds a member. If the name exists already, nothing changes and the result is false.
  package mutating func insert(_ key: String, _ value: JSON) -> Bool {
    guard index(of: key) == nil else { return false }
    add(key, value)
    return true
  }

  private mutating func add(_ key: String, _ value: JSON) {
    members.append((key, value))
    if members.count > Self.searchedCount, !places.isEmpty {
      places[ExactString(key)] = members.count - 1
    } else {
      indexIfLarge()
    }
  }

  private mutating func indexIfLarge() {
    guard members.count > Self.searchedCount else { return }
    for (index, member) in members.enumerated() { places[ExactString(member.key)] = index }
  }

  private func index(of key: String) -> Int? {
    members.count > Self.searchedCount
      ? places[ExactString(key)]
      : members.firstIndex { $0.key.utf8.elementsEqual(key.utf8) }
  }

  public var keys: [String] { members.map(\.key) }
  public var values: [JSON] { members.map(\.value) }

  /// The members without their order.
  public var dictionary: [String: JSON] {
    Dictionary(members.map { ($0.key, $0.value) }, uniquingKeysWith: { $1 })
  }
}

extension JSONObject: RandomAccessCollection, Equatable, ExpressibleByDictionaryLiteral {
  public var startIndex: Int { 0 }
  public var endIndex: Int { members.count }
  public subscript(position: Int) -> Element { members[position] }

  /// Equality of the members in any order.
  public static func == (a: JSONObject, b: JSONObject) -> Bool {
    a.count == b.count && a.allSatisfy { b[$0.key] == $0.value }
  }

  public init(dictionaryLiteral elements: (String, JSON)...) {
    self.init(elements.map { (key: $0.0, value: $0.1) })
  }
}

/// A string that is compared by its scalars.
private struct ExactString: Hashable {
  let text: String

  init(_ text: String) { self.text = text }

  static func == (a: ExactString, b: ExactString) -> Bool {
    a.text.utf8.elementsEqual(b.text.utf8)
  }

  func hash(into hasher: inout Hasher) {
    var text = text
    text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
  }
}
