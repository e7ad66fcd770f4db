import Foundation

/// A position where text isn't valid JSON, or where an object repeats a name.
public struct JSONError: Error, Equatable, Sendable, CustomStringConvertible {
  public enum Kind: Equatable, Sendable {
    case notJSON
    /// An object has two members of this name.
    case duplicateKey(String)
  }

  public let kind: Kind
  /// A clause: "a string has no end".
  public let problem: String
  /// The number of bytes before the error.
  public let offset: Int
  /// Counted from 1.
  public let line: Int
  /// Counted from 1, in bytes.
  public let column: Int

  public var description: String {
    "not valid JSON at line \(line), column \(column): \(problem)"
  }
}

extension JSON {
  /// Parses a complete text in UTF-8, as RFC 8259 defines it. At most 128 values are nested.
  ///
  /// - Throws: `JSONError` for text that isn't JSON, an object with two members of one name, or a
  ///   number beyond the range of `Double`.
  public init(parsing text: UnsafeRawBufferPointer) throws(JSONError) {
    var cursor = JSONCursor(text)
    self = try cursor.value()
    try cursor.expectEnd()
  }

  public init(parsing text: some ContiguousBytes) throws(JSONError) {
    let result = text.withUnsafeBytes { bytes in
      Result { () throws(JSONError) in try JSON(parsing: bytes) }
    }
    self = try result.get()
  }

  public init(parsing text: String) throws(JSONError) {
    var text = text
    let result = text.withUTF8 { bytes in
      Result { () throws(JSONError) in try JSON(parsing: UnsafeRawBufferPointer(bytes)) }
    }
    self = try result.get()
  }
}

/// Reads JSON from untrusted bytes, front to back, with or without building a tree.
///
/// A 100 MB header of brackets must neither exhaust the stack nor allocate memory for each value,
/// and the largest real headers (some 5,000 entries) must open in milliseconds.
package struct JSONCursor {
  /// The nesting limit of `serde_json`, which upstream's readers use.
  package static let maximumDepth = 128

  /// The caller keeps them alive.
  private let bytes: UnsafeRawBufferPointer
  package private(set) var position = 0
  /// The byte range of the last string or name that was read, with its quotes.
  package private(set) var lastString = 0..<0
  /// The number of open objects and arrays.
  private var depth = 0

  package init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  // MARK: Objects and arrays

  /// The next byte that is not white space.
  package mutating func peek() -> UInt8? {
    while position < bytes.count {
      let byte = bytes[position]
      guard byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 else { return byte }
      position += 1
    }
    return nil
  }

  package mutating func isNext(_ character: Unicode.Scalar) -> Bool {
    peek() == UInt8(ascii: character)
  }

  /// Whether the next byte is one of these.
  private func isAt(_ characters: Unicode.Scalar...) -> Bool {
    position < bytes.count && characters.contains(Unicode.Scalar(bytes[position]))
  }

  private mutating func skip(_ character: Unicode.Scalar) throws(JSONError) {
    guard peek() == UInt8(ascii: character) else { throw missing("'\(character)' is missing") }
    position += 1
  }

  package mutating func expectEnd() throws(JSONError) {
    guard peek() == nil else { throw notJSON("there is more text after the end of the value") }
  }

  /// Consumes a `{`; call `nextKey` until it returns nil.
  package mutating func beginObject() throws(JSONError) { try begin("{") }

  /// Consumes a `[`; call `nextElement` until it returns false.
  package mutating func beginArray() throws(JSONError) { try begin("[") }

  private mutating func begin(_ bracket: Unicode.Scalar) throws(JSONError) {
    try skip(bracket)
    depth += 1
    guard depth <= Self.maximumDepth else { throw notJSON("values are nested too deeply") }
  }

  /// Moves to the value of the next member of an object and returns its name, or nil after the `}`.
  package mutating func nextKey(isFirst: inout Bool) throws(JSONError) -> String? {
    guard try step(isFirst: &isFirst, before: "}") else { return nil }
    let name = try string()
    try skip(":")
    return name
  }

  /// The same, with the name as UTF-8.
  package mutating func nextKeyBytes(isFirst: inout Bool) throws(JSONError) -> [UInt8]? {
    guard try step(isFirst: &isFirst, before: "}") else { return nil }
    let name = try stringBytes()
    try skip(":")
    return name
  }

  /// Moves to the next element of an array; false after the `]`.
  package mutating func nextElement(isFirst: inout Bool) throws(JSONError) -> Bool {
    try step(isFirst: &isFirst, before: "]")
  }

  private mutating func step(
    isFirst: inout Bool, before bracket: Unicode.Scalar
  ) throws(JSONError) -> Bool {
    if peek() == UInt8(ascii: bracket) {
      position += 1
      depth -= 1
      return false
    }
    if !isFirst {
      guard peek() == UInt8(ascii: ",") else {
        throw missing("',' or '\(bracket)' is missing")
      }
      position += 1
      if peek() == UInt8(ascii: bracket) { throw notJSON("nothing follows a comma") }
    }
    isFirst = false
    return true
  }

  // MARK: Values

  /// Reads any value.
  package mutating func value() throws(JSONError) -> JSON {
    switch peek() {
    case UInt8(ascii: "{"):
      try beginObject()
      var members = JSONObject()
      var isFirst = true
      while let name = try nextKey(isFirst: &isFirst) {
        guard members.insert(name, try value()) else { throw duplicate(name) }
      }
      return .object(members)
    case UInt8(ascii: "["):
      try beginArray()
      var items: [JSON] = []
      var isFirst = true
      while try nextElement(isFirst: &isFirst) { items.append(try value()) }
      return .array(items)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"):
      try skipWord("true")
      return .bool(true)
    case UInt8(ascii: "f"):
      try skipWord("false")
      return .bool(false)
    case UInt8(ascii: "n"):
      try skipWord("null")
      return .null
    default: return .number(try number())
    }
  }

  /// Skips any value.
  package mutating func skipValue() throws(JSONError) {
    switch peek() {
    case UInt8(ascii: "{"):
      try beginObject()
      var isFirst = true
      while try step(isFirst: &isFirst, before: "}") {
        try skipString()
        try skip(":")
        try skipValue()
      }
    case UInt8(ascii: "["):
      try beginArray()
      var isFirst = true
      while try nextElement(isFirst: &isFirst) { try skipValue() }
    case UInt8(ascii: "\""): try skipString()
    case UInt8(ascii: "t"): try skipWord("true")
    case UInt8(ascii: "f"): try skipWord("false")
    case UInt8(ascii: "n"): try skipWord("null")
    default: try skipNumber()
    }
  }

  private mutating func skipWord(_ word: StaticString) throws(JSONError) {
    let rest = bytes[min(position, bytes.count)...].prefix(word.utf8CodeUnitCount)
    guard
      rest.elementsEqual(UnsafeBufferPointer(start: word.utf8Start, count: word.utf8CodeUnitCount))
    else { throw missing("a value is missing or unknown") }
    position += word.utf8CodeUnitCount
  }

  package mutating func number() throws(JSONError) -> JSONNumber {
    _ = peek()
    let start = position
    try skipNumber()
    let text = String(
      decoding: UnsafeRawBufferPointer(rebasing: bytes[start..<position]), as: UTF8.self)
    // Fewer digits without an exponent can't leave the range.
    if position - start > 300 || text.utf8.contains(where: { $0 | 0x20 == UInt8(ascii: "e") }) {
      guard let value = Double(text), value.isFinite else {
        position = start
        throw notJSON("a number is too large")
      }
    }
    return JSONNumber(unchecked: text)
  }

  private mutating func skipNumber() throws(JSONError) {
    if isNext("-") { position += 1 }
    let start = position
    let whole = skipDigits()
    guard whole > 0 else { throw missing("a value is missing or unknown") }
    guard whole == 1 || bytes[start] != UInt8(ascii: "0") else {
      throw notJSON("a number begins with 0")
    }
    if isAt(".") {
      position += 1
      guard skipDigits() > 0 else { throw notJSON("a number has no digit after its point") }
    }
    if isAt("e", "E") {
      position += 1
      if isAt("+", "-") { position += 1 }
      guard skipDigits() > 0 else { throw notJSON("a number has no digit in its exponent") }
    }
  }

  private mutating func skipDigits() -> Int {
    let start = position
    while position < bytes.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[position])
    {
      position += 1
    }
    return position - start
  }

  // MARK: Strings

  package mutating func string() throws(JSONError) -> String {
    var text: String?
    try readString { utf8 in text = String(decoding: utf8, as: UTF8.self) }
    return text ?? ""
  }

  /// A string as UTF-8, escapes resolved.
  package mutating func stringBytes() throws(JSONError) -> [UInt8] {
    var text: [UInt8] = []
    try readString { utf8 in text = Array(utf8) }
    return text
  }

  private mutating func skipString() throws(JSONError) { try readString { _ in } }

  /// Calls `body` once with a string's valid UTF-8.
  private mutating func readString(
    _ body: (UnsafeRawBufferPointer) -> Void
  ) throws(JSONError) {
    guard peek() == UInt8(ascii: "\"") else { throw missing("a string in quotes is missing") }
    position += 1
    let start = position
    var highBits = skipPlainBytes()
    guard position < bytes.count else { throw notJSON("a string has no end") }
    if bytes[position] == UInt8(ascii: "\"") {
      let utf8 = UnsafeRawBufferPointer(rebasing: bytes[start..<position])
      guard Self.isValid(utf8, highBits: highBits) else {
        throw notJSON("a string is not UTF-8")
      }
      body(utf8)
      position += 1
      lastString = start - 1..<position
      return
    }
    // With escapes: plain runs are copied in one piece.
    var decoded = [UInt8](UnsafeRawBufferPointer(rebasing: bytes[start..<position]))
    while position < bytes.count {
      let byte = bytes[position]
      switch byte {
      case UInt8(ascii: "\""):
        guard decoded.withUnsafeBytes({ Self.isValid($0, highBits: highBits) }) else {
          throw notJSON("a string is not UTF-8")
        }
        decoded.withUnsafeBytes(body)
        position += 1
        lastString = start - 1..<position
        return
      case UInt8(ascii: "\\"):
        position += 1
        try escape(into: &decoded, &highBits)
      case 0..<0x20: throw notJSON("a string has an unescaped control character")
      default:
        let run = position
        highBits |= skipPlainBytes()
        decoded.append(contentsOf: UnsafeRawBufferPointer(rebasing: bytes[run..<position]))
      }
    }
    throw notJSON("a string has no end")
  }

  /// Moves to the next byte that a string can't hold unescaped - a quote, a backslash, a control
  /// character - eight bytes at a time: a header can be 100 MB of metadata.
  ///
  /// - Returns: All bytes on the way, combined by "or".
  private mutating func skipPlainBytes() -> UInt64 {
    let (ones, tops): (UInt64, UInt64) = (0x0101_0101_0101_0101, 0x8080_8080_8080_8080)
    let (quotes, backslashes) = (ones &* 0x22, ones &* 0x5C)
    var seen: UInt64 = 0
    while position &+ 8 <= bytes.count {
      let word = UInt64(
        littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self))
      let (q, b) = (word ^ quotes, word ^ backslashes)
      // The lowest bit set marks the first byte that is one of the three.
      let stops =
        ((q &- ones) & ~q | (b &- ones) & ~b | (word &- ones &* 0x20) & ~word) & tops
      guard stops == 0 else {
        let count = stops.trailingZeroBitCount / 8
        position += count
        return seen | (count == 0 ? 0 : word << UInt64(64 - 8 * count))
      }
      seen |= word
      position &+= 8
    }
    while position < bytes.count {
      let byte = bytes[position]
      if byte == 0x22 || byte == 0x5C || byte < 0x20 { break }
      seen |= UInt64(byte)
      position += 1
    }
    return seen
  }

  /// - Parameter highBits: The bytes combined by "or"; if the top bit is clear, they are ASCII.
  private static func isValid(_ utf8: UnsafeRawBufferPointer, highBits: UInt64) -> Bool {
    guard highBits & 0x8080_8080_8080_8080 != 0 else { return true }
    return String(validating: utf8, as: UTF8.self) != nil
  }

  /// Appends the character of the escape whose backslash has been skipped.
  private mutating func escape(
    into decoded: inout [UInt8], _ highBits: inout UInt64
  ) throws(JSONError) {
    guard position < bytes.count else { throw notJSON("a string has no end") }
    let byte = bytes[position]
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): decoded.append(byte)
    case UInt8(ascii: "b"): decoded.append(0x08)
    case UInt8(ascii: "f"): decoded.append(0x0C)
    case UInt8(ascii: "n"): decoded.append(0x0A)
    case UInt8(ascii: "r"): decoded.append(0x0D)
    case UInt8(ascii: "t"): decoded.append(0x09)
    case UInt8(ascii: "u"):
      var code = try hexadecimal()
      if (0xD800..<0xDC00).contains(code) {
        guard position + 1 < bytes.count, bytes[position] == UInt8(ascii: "\\"),
          bytes[position + 1] == UInt8(ascii: "u")
        else { throw notJSON("an escaped surrogate has no partner") }
        position += 2
        let low = try hexadecimal()
        guard (0xDC00..<0xE000).contains(low) else {
          throw notJSON("an escaped surrogate has no partner")
        }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else {
        throw notJSON("an escaped surrogate has no partner")
      }
      for unit in UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter {
        highBits |= UInt64(unit)
        decoded.append(unit)
      }
    default: throw notJSON("a string has an unknown escape")
    }
  }

  private mutating func hexadecimal() throws(JSONError) -> UInt32 {
    guard position + 4 <= bytes.count else { throw notJSON("a string has no end") }
    var code: UInt32 = 0
    for _ in 0..<4 {
      let digit: UInt8
      switch bytes[position] {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = bytes[position] - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = bytes[position] - UInt8(ascii: "a") + 10
      case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = bytes[position] - UInt8(ascii: "A") + 10
      default: throw notJSON("\\u needs four hexadecimal digits")
      }
      code = code << 4 + UInt32(digit)
      position += 1
    }
    return code
  }

  // MARK: Errors

  package func notJSON(_ problem: String) -> JSONError { error(.notJSON, problem) }

  /// Reports a problem at the end of the text as missing text.
  private func missing(_ problem: String) -> JSONError {
    notJSON(position < bytes.count ? problem : "the text ends too early")
  }

  package func duplicate(_ key: String) -> JSONError {
    let shown = key.unicodeScalars.count > 40 ? "\(key.prefix(40))…" : key
    return error(.duplicateKey(key), "an object has two members named \"\(shown)\"")
  }

  private func error(_ kind: JSONError.Kind, _ problem: String) -> JSONError {
    let before = bytes[..<min(position, bytes.count)]
    let lineStart = before.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0
    return JSONError(
      kind: kind, problem: problem, offset: before.count,
      line: 1 + before.count { $0 == UInt8(ascii: "\n") }, column: 1 + before.count - lineStart)
  }
}
