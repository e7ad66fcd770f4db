import Foundation

// Codable types by way of the tree: values are encoded into it and decoded from it, so that all
// text is parsed and written in one place.

extension JSON {
  /// A value as JSON. Numbers have the shortest digits, and integers no point.
  ///
  /// - Parameter nonFinite: The replacement for numbers that aren't finite; nil rejects them.
  /// - Throws: `EncodingError` for a number that is rejected; the value's own errors.
  public init(
    encoding value: some Encodable, nonFinite: @escaping (Double) -> JSON? = { _ in nil }
  ) throws {
    let node = EncodedNode()
    try TreeEncoder(node, [], nonFinite).encode(value)
    self = node.json
  }

  /// Decodes a value.
  ///
  /// - Throws: `DecodingError` if the JSON doesn't match the type.
  public func decode<Value: Decodable>(_ type: Value.Type = Value.self) throws -> Value {
    try TreeDecoder(self, []).unwrap(type)
  }

  /// Parses a text and decodes a value.
  ///
  /// - Throws: `JSONError` for text that isn't JSON; `DecodingError` if it doesn't match the type.
  public static func decode<Value: Decodable>(
    _ type: Value.Type = Value.self, from text: some ContiguousBytes
  ) throws -> Value {
    try JSON(parsing: text).decode(type)
  }
}

// For the encoders and decoders of Foundation and other libraries.
extension JSON: Codable {
  public init(from decoder: any Decoder) throws {
    if let tree = decoder as? TreeDecoder {
      self = tree.json
      return
    }
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let value = try? container.decode(Bool.self) {  // each kind is tried in turn
      self = .bool(value)
    } else if let value = try? container.decode(Int.self) {
      self.init(value)
    } else if let value = try? container.decode(Double.self) {
      self.init(value)
    } else if let value = try? container.decode(String.self) {
      self = .string(value)
    } else if let value = try? container.decode([JSON].self) {
      self = .array(value)
    } else {
      self = .object(JSONObject(try container.decode([String: JSON].self)))
    }
  }

  public func encode(to encoder: any Encoder) throws {
    if let tree = encoder as? TreeEncoder {
      tree.node.content = .value(self)
      return
    }
    var container = encoder.singleValueContainer()
    switch self {
    case .null: try container.encodeNil()
    case .bool(let value): try container.encode(value)
    case .number(let value):
      if let integer = value.int {
        try container.encode(integer)
      } else {
        try container.encode(value.double)
      }
    case .string(let value): try container.encode(value)
    case .array(let value): try container.encode(value)
    case .object(let value): try container.encode(value.dictionary)
    }
  }
}

private struct PathKey: CodingKey {
  let stringValue: String
  let intValue: Int?

  init(stringValue: String) { (self.stringValue, intValue) = (stringValue, nil) }
  init(intValue: Int) { (stringValue, self.intValue) = ("\(intValue)", intValue) }
}

// MARK: Encoding

/// A value that containers are still writing to.
private final class EncodedNode {
  enum Content {
    case value(JSON)
    case array([EncodedNode])
    case object([(key: String, node: EncodedNode)])
  }

  /// A value that encodes nothing is an empty object.
  var content = Content.object([])

  var json: JSON {
    switch content {
    case .value(let value): value
    case .array(let nodes): .array(nodes.map(\.json))
    case .object(let members):
      .object(JSONObject(members.map { (key: $0.key, value: $0.node.json) }))
    }
  }
}

private final class TreeEncoder: Encoder, SingleValueEncodingContainer {
  let node: EncodedNode
  let codingPath: [any CodingKey]
  let nonFinite: (Double) -> JSON?
  var userInfo: [CodingUserInfoKey: Any] { [:] }

  init(_ node: EncodedNode, _ path: [any CodingKey], _ nonFinite: @escaping (Double) -> JSON?) {
    (self.node, codingPath, self.nonFinite) = (node, path, nonFinite)
  }

  func container<Key>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
    KeyedEncodingContainer(KeyedTreeEncoder<Key>(encoder: self))
  }

  func unkeyedContainer() -> any UnkeyedEncodingContainer {
    node.content = .array([])
    return UnkeyedTreeEncoder(encoder: self)
  }

  func singleValueContainer() -> any SingleValueEncodingContainer { self }

  func encodeNil() { node.content = .value(.null) }

  func encode<Value: Encodable>(_ value: Value) throws {
    switch value {
    case let value as Bool: node.content = .value(.bool(value))
    case let value as String: node.content = .value(.string(value))
    case let value as Double: node.content = .value(try number(value, value, "\(value)"))
    case let value as Float: node.content = .value(try number(Double(value), value, "\(value)"))
    case let value as any BinaryInteger: node.content = .value(JSON(value))
    default: try value.encode(to: self)
    }
  }

  private func number(_ value: Double, _ given: Any, _ digits: String) throws -> JSON {
    guard value.isFinite else {
      guard let replacement = nonFinite(value) else {
        throw EncodingError.invalidValue(
          given, .init(codingPath: codingPath, debugDescription: "\(value) is not a number of JSON")
        )
      }
      return replacement
    }
    return .number(
      JSONNumber(unchecked: digits.hasSuffix(".0") ? String(digits.dropLast(2)) : digits))
  }

  /// An encoder of a member or an element.
  func inner(_ key: any CodingKey) -> TreeEncoder {
    TreeEncoder(EncodedNode(), codingPath + [key], nonFinite)
  }
}

private struct KeyedTreeEncoder<Key: CodingKey>: KeyedEncodingContainerProtocol {
  let encoder: TreeEncoder
  var codingPath: [any CodingKey] { encoder.codingPath }

  private func add(_ key: any CodingKey) -> TreeEncoder {
    let inner = encoder.inner(key)
    var members: [(key: String, node: EncodedNode)] = []
    if case .object(let before) = encoder.node.content { members = before }
    encoder.node.content = .object([])  // so that there is one copy
    members.append((key.stringValue, inner.node))
    encoder.node.content = .object(members)
    return inner
  }

  func encodeNil(forKey key: Key) { add(key).encodeNil() }
  func encode(_ value: some Encodable, forKey key: Key) throws { try add(key).encode(value) }

  func nestedContainer<Nested>(
    keyedBy type: Nested.Type, forKey key: Key
  ) -> KeyedEncodingContainer<Nested> { add(key).container(keyedBy: type) }

  func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer {
    add(key).unkeyedContainer()
  }

  func superEncoder() -> any Encoder { add(PathKey(stringValue: "super")) }
  func superEncoder(forKey key: Key) -> any Encoder { add(key) }
}

private struct UnkeyedTreeEncoder: UnkeyedEncodingContainer {
  let encoder: TreeEncoder
  var codingPath: [any CodingKey] { encoder.codingPath }
  var count: Int { if case .array(let nodes) = encoder.node.content { nodes.count } else { 0 } }

  private func add() -> TreeEncoder {
    var nodes: [EncodedNode] = []
    if case .array(let before) = encoder.node.content { nodes = before }
    encoder.node.content = .array([])  // so that there is one copy
    let inner = encoder.inner(PathKey(intValue: nodes.count))
    nodes.append(inner.node)
    encoder.node.content = .array(nodes)
    return inner
  }

  func encodeNil() { add().encodeNil() }
  func encode(_ value: some Encodable) throws { try add().encode(value) }

  func nestedContainer<Nested>(keyedBy type: Nested.Type) -> KeyedEncodingContainer<Nested> {
    add().container(keyedBy: type)
  }

  func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer { add().unkeyedContainer() }
  func superEncoder() -> any Encoder { add() }
}

// MARK: Decoding

private final class TreeDecoder: Decoder, SingleValueDecodingContainer {
  let json: JSON
  let codingPath: [any CodingKey]
  var userInfo: [CodingUserInfoKey: Any] { [:] }

  init(_ json: JSON, _ path: [any CodingKey]) { (self.json, codingPath) = (json, path) }

  func mismatch(_ type: Any.Type, _ wanted: String) -> DecodingError {
    let context = DecodingError.Context(
      codingPath: codingPath,
      debugDescription: "\(wanted) is expected here, and this is \(json.kind)"
    )
    return json == .null ? .valueNotFound(type, context) : .typeMismatch(type, context)
  }

  func container<Key>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
    guard case .object(let members) = json else {
      throw mismatch([String: JSON].self, "an object")
    }
    return KeyedDecodingContainer(KeyedTreeDecoder<Key>(decoder: self, members: members))
  }

  func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
    guard case .array(let items) = json else { throw mismatch([JSON].self, "a list") }
    return UnkeyedTreeDecoder(decoder: self, items: items)
  }

  func singleValueContainer() -> any SingleValueDecodingContainer { self }

  func decodeNil() -> Bool { json == .null }
  func decode<Value: Decodable>(_ type: Value.Type) throws -> Value { try unwrap(type) }

  func unwrap<Value: Decodable>(_ type: Value.Type) throws -> Value {
    let value: Any?
    switch type {
    case is Bool.Type: value = json.bool
    case is String.Type: value = json.string
    case is Double.Type: value = json.double
    case is Float.Type: value = json.double.map { Float($0) }
    case let integer as any FixedWidthInteger.Type: value = try self.integer(integer)
    default: return try Value(from: self)
    }
    guard let value = value as? Value else { throw mismatch(type, Self.words(type)) }
    return value
  }

  private func integer<Number: FixedWidthInteger>(_ type: Number.Type) throws -> Number? {
    guard case .number(let number) = json else { return nil }
    if let value = Number(number.text) ?? Number(exactly: number.double) { return value }
    throw DecodingError.dataCorrupted(
      .init(
        codingPath: codingPath,
        debugDescription: "\(number.text) is not an integer in the range of \(type)"))
  }

  private static func words(_ type: Any.Type) -> String {
    switch type {
    case is Bool.Type: "true or false"
    case is String.Type: "a string"
    default: "a number"
    }
  }
}

private struct KeyedTreeDecoder<Key: CodingKey>: KeyedDecodingContainerProtocol {
  let decoder: TreeDecoder
  let members: JSONObject
  var codingPath: [any CodingKey] { decoder.codingPath }
  var allKeys: [Key] { members.keys.compactMap { Key(stringValue: $0) } }

  func contains(_ key: Key) -> Bool { members[key.stringValue] != nil }

  private func inner(_ key: any CodingKey) throws -> TreeDecoder {
    guard let member = members[key.stringValue] else {
      throw DecodingError.keyNotFound(
        key,
        .init(codingPath: codingPath, debugDescription: "\"\(key.stringValue)\" is missing"))
    }
    return TreeDecoder(member, codingPath + [key])
  }

  func decodeNil(forKey key: Key) throws -> Bool { try inner(key).decodeNil() }

  func decode<Value: Decodable>(_ type: Value.Type, forKey key: Key) throws -> Value {
    try inner(key).unwrap(type)
  }

  func nestedContainer<Nested>(
    keyedBy type: Nested.Type, forKey key: Key
  ) throws -> KeyedDecodingContainer<Nested> { try inner(key).container(keyedBy: type) }

  func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
    try inner(key).unkeyedContainer()
  }

  func superDecoder() throws -> any Decoder { try inner(PathKey(stringValue: "super")) }
  func superDecoder(forKey key: Key) throws -> any Decoder { try inner(key) }
}

private struct UnkeyedTreeDecoder: UnkeyedDecodingContainer {
  let decoder: TreeDecoder
  let items: [JSON]
  var currentIndex = 0
  var codingPath: [any CodingKey] { decoder.codingPath }
  var count: Int? { items.count }
  var isAtEnd: Bool { currentIndex >= items.count }

  private func current() throws -> TreeDecoder {
    let path = codingPath + [PathKey(intValue: currentIndex)]
    guard !isAtEnd else {
      throw DecodingError.valueNotFound(
        JSON.self, .init(codingPath: path, debugDescription: "the list has no more elements"))
    }
    return TreeDecoder(items[currentIndex], path)
  }

  private mutating func next<Value>(_ body: (TreeDecoder) throws -> Value) throws -> Value {
    let value = try body(try current())
    currentIndex += 1
    return value
  }

  mutating func decodeNil() throws -> Bool {
    guard try current().decodeNil() else { return false }
    currentIndex += 1
    return true
  }

  mutating func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
    try next { try $0.unwrap(type) }
  }

  mutating func nestedContainer<Nested>(
    keyedBy type: Nested.Type
  ) throws -> KeyedDecodingContainer<Nested> { try next { try $0.container(keyedBy: type) } }

  mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer {
    try next { try $0.unkeyedContainer() }
  }

  mutating func superDecoder() throws -> any Decoder { try next { $0 } }
}
