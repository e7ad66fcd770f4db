/// A small JSON reader that keeps strings as the scalars that the file has.
///
/// Foundation's readers return dictionaries keyed by `String`, whose equality is canonical
/// equivalence: U+00C5 and U+212B, two tokens of Gemma's vocabulary, would become one key. They
/// also take seconds for a vocabulary of 262,144 tokens. This one walks the bytes once, and hands
/// large tables over entry by entry.
struct JSONReader {
  let file: String
  private let bytes: [UInt8]
  private var position = 0
  private var depth = 0

  /// Nesting that no tokenizer needs; refused so that a hostile file can't overflow the stack.
  private static let maximumDepth = 128

  init(_ bytes: [UInt8], file: String) throws(TokenizerError) {
    self.file = file
    self.bytes = bytes
    guard String(validating: bytes, as: UTF8.self) != nil else {
      throw .malformed(file: file, line: 1, problem: "the file is not UTF-8 text")
    }
  }

  // MARK: Values

  mutating func value() throws(TokenizerError) -> JSONValue {
    switch try peek() {
    case UInt8(ascii: "{"):
      var members: [(key: String, value: JSONValue)] = []
      try forEachMember { (key, reader) throws(TokenizerError) in
        members.append((String(decoding: key, as: UTF8.self), try reader.value()))
      }
      return .object(members)
    case UInt8(ascii: "["):
      var elements: [JSONValue] = []
      try forEachElement { (reader) throws(TokenizerError) in elements.append(try reader.value()) }
      return .array(elements)
    case UInt8(ascii: "\""): return .string(String(decoding: try string(), as: UTF8.self))
    case UInt8(ascii: "t"): return try literal("true", .bool(true))
    case UInt8(ascii: "f"): return try literal("false", .bool(false))
    case UInt8(ascii: "n"): return try literal("null", .null)
    default: return try number()
    }
  }

  /// Calls `body` with each key; `body` must read exactly one value.
  mutating func forEachMember(
    _ body: ([UInt8], inout JSONReader) throws(TokenizerError) -> Void
  ) throws(TokenizerError) {
    try enter(UInt8(ascii: "{"))
    if try take(UInt8(ascii: "}")) { return leave() }
    repeat {
      guard try peek() == UInt8(ascii: "\"") else { throw problem("a key in quotes is missing") }
      let key = try string()
      try expect(UInt8(ascii: ":"))
      try body(key, &self)
    } while try take(UInt8(ascii: ","))
    try expect(UInt8(ascii: "}"))
    leave()
  }

  /// Calls `body` once for each element; `body` must read exactly one value.
  mutating func forEachElement(
    _ body: (inout JSONReader) throws(TokenizerError) -> Void
  ) throws(TokenizerError) {
    try enter(UInt8(ascii: "["))
    if try take(UInt8(ascii: "]")) { return leave() }
    repeat { try body(&self) } while try take(UInt8(ascii: ","))
    try expect(UInt8(ascii: "]"))
    leave()
  }

  /// The next value's first byte, after white space.
  mutating func peek() throws(TokenizerError) -> UInt8 {
    while position < bytes.count {
      switch bytes[position] {
      case 0x20, 0x0A, 0x0D, 0x09: position += 1
      case let byte: return byte
      }
    }
    throw problem("the text ends too early")
  }

  mutating func end() throws(TokenizerError) {
    while position < bytes.count {
      guard [0x20, 0x0A, 0x0D, 0x09].contains(bytes[position]) else {
        throw problem("there is more text after the end of the value")
      }
      position += 1
    }
  }

  /// A string's UTF-8 bytes, escapes resolved.
  mutating func string() throws(TokenizerError) -> [UInt8] {
    try expect(UInt8(ascii: "\""))
    var text: [UInt8] = []
    var run = position
    while position < bytes.count {
      switch bytes[position] {
      case UInt8(ascii: "\""):
        if text.isEmpty {
          text = Array(bytes[run..<position])
        } else {
          text += bytes[run..<position]
        }
        position += 1
        return text
      case UInt8(ascii: "\\"):
        text += bytes[run..<position]
        position += 1
        try escape(into: &text)
        run = position
      case 0..<0x20: throw problem("a string has an unescaped control character")
      default: position += 1
      }
    }
    throw problem("a string does not end")
  }

  // MARK: Parts

  private mutating func escape(into text: inout [UInt8]) throws(TokenizerError) {
    guard position < bytes.count else { throw problem("a string does not end") }
    let letter = bytes[position]
    position += 1
    switch letter {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(letter)
    case UInt8(ascii: "b"): text.append(0x08)
    case UInt8(ascii: "f"): text.append(0x0C)
    case UInt8(ascii: "n"): text.append(0x0A)
    case UInt8(ascii: "r"): text.append(0x0D)
    case UInt8(ascii: "t"): text.append(0x09)
    case UInt8(ascii: "u"):
      var code = try hexadecimal()
      if (0xD800..<0xDC00).contains(code), position + 1 < bytes.count,
        bytes[position] == UInt8(ascii: "\\"),
        bytes[position + 1] == UInt8(ascii: "u")
      {
        position += 2
        let low = try hexadecimal()
        guard (0xDC00..<0xE000).contains(low) else {
          throw problem("an escaped surrogate has no partner")
        }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else {
        throw problem("an escaped surrogate has no partner")
      }
      text.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
    default: throw problem("a string has an unknown escape")
    }
  }

  private mutating func hexadecimal() throws(TokenizerError) -> UInt32 {
    var code: UInt32 = 0
    for _ in 0..<4 {
      guard position < bytes.count,
        let digit = Character(Unicode.Scalar(bytes[position])).hexDigitValue
      else { throw problem("\\u needs four hexadecimal digits") }
      code = code << 4 | UInt32(digit)
      position += 1
    }
    return code
  }

  private mutating func number() throws(TokenizerError) -> JSONValue {
    let start = position
    func digits(_ position: inout Int) -> Int {
      let first = position
      while position < bytes.count,
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[position])
      {
        position += 1
      }
      return position - first
    }
    if bytes[position] == UInt8(ascii: "-") { position += 1 }
    let leading = position
    let count = digits(&position)
    guard count > 0, count == 1 || bytes[leading] != UInt8(ascii: "0") else {
      throw problem("a value is missing or unknown")
    }
    var isInteger = true
    if position < bytes.count, bytes[position] == UInt8(ascii: ".") {
      isInteger = false
      position += 1
      guard digits(&position) > 0 else { throw problem("a number has no digit after its point") }
    }
    if position < bytes.count, bytes[position] | 0x20 == UInt8(ascii: "e") {
      isInteger = false
      position += 1
      if position < bytes.count, [UInt8(ascii: "+"), UInt8(ascii: "-")].contains(bytes[position]) {
        position += 1
      }
      guard digits(&position) > 0 else { throw problem("a number's exponent has no digit") }
    }
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    if isInteger, let integer = Int(text) { return .integer(integer) }
    guard let double = Double(text), double.isFinite else {
      throw problem("the number \(text) is too large")
    }
    return .double(double)
  }

  private mutating func literal(_ text: StaticString, _ value: JSONValue) throws(TokenizerError)
    -> JSONValue
  {
    let letters = text.withUTF8Buffer { Array($0) }
    guard bytes[position...].starts(with: letters) else {
      throw problem("a value is missing or unknown")
    }
    position += letters.count
    return value
  }

  private mutating func take(_ byte: UInt8) throws(TokenizerError) -> Bool {
    guard try peek() == byte else { return false }
    position += 1
    return true
  }

  private mutating func expect(_ byte: UInt8) throws(TokenizerError) {
    guard try take(byte) else {
      throw problem("'\(Character(Unicode.Scalar(byte)))' is missing")
    }
  }

  private mutating func enter(_ bracket: UInt8) throws(TokenizerError) {
    try expect(bracket)
    depth += 1
    guard depth <= Self.maximumDepth else { throw problem("values are nested too deeply") }
  }

  private mutating func leave() { depth -= 1 }

  private func problem(_ problem: String) -> TokenizerError {
    let line = 1 + bytes[..<min(position, bytes.count)].count { $0 == UInt8(ascii: "\n") }
    return .malformed(file: file, line: line, problem: problem)
  }
}

/// A JSON value, for the small parts of a file. Members keep their order.
enum JSONValue {
  case null
  case bool(Bool)
  case integer(Int)
  case double(Double)
  case string(String)
  case array([JSONValue])
  case object([(key: String, value: JSONValue)])

  /// The kind of value, for messages.
  var kind: String {
    switch self {
    case .null: "null"
    case .bool: "a truth value"
    case .integer, .double: "a number"
    case .string: "a string"
    case .array: "a list"
    case .object: "an object"
    }
  }
}

/// A value together with the place it came from, so that what is wrong with it can be said.
struct JSONField {
  let value: JSONValue
  let file: String
  let key: String

  var isNull: Bool { if case .null = value { true } else { false } }

  /// A member; a missing one reads as null. Of two members with one name the last counts.
  subscript(_ name: String) -> JSONField {
    var member = JSONValue.null
    if case .object(let members) = value,
      let last = members.last(where: { $0.key.isSame(as: name) })
    {
      member = last.value
    }
    return JSONField(value: member, file: file, key: key.isEmpty ? name : "\(key).\(name)")
  }

  func string() throws(TokenizerError) -> String {
    guard case .string(let string) = value else { throw expected("a string") }
    return string
  }

  func bool(default missing: Bool? = nil) throws(TokenizerError) -> Bool {
    if isNull, let missing { return missing }
    guard case .bool(let bool) = value else { throw expected("true or false") }
    return bool
  }

  func id() throws(TokenizerError) -> UInt32 {
    guard case .integer(let integer) = value, let id = UInt32(exactly: integer) else {
      throw expected("a token id (0 to \(UInt32.max))")
    }
    return id
  }

  func elements() throws(TokenizerError) -> [JSONField] {
    guard case .array(let elements) = value else { throw expected("a list") }
    return elements.enumerated().map { JSONField(value: $1, file: file, key: "\(key)[\($0)]") }
  }

  func requireObject() throws(TokenizerError) {
    guard case .object = value else { throw expected("an object") }
  }

  func expected(_ wanted: String) -> TokenizerError {
    invalid(isNull ? "\(wanted) is missing" : "\(wanted) is wanted here, and this is \(value.kind)")
  }

  func invalid(_ problem: String) -> TokenizerError {
    .invalid(file: file, key: key, problem: problem)
  }

  func unsupported(_ kind: String) -> TokenizerError {
    .unsupported(file: file, key: key, kind: kind)
  }
}

extension String {
  /// Equality of scalars; `==` is canonical equivalence.
  func isSame(as other: String) -> Bool { utf8.elementsEqual(other.utf8) }
}
