import Foundation

/// Reads JSON from untrusted bytes, front to back, without building a tree.
///
/// A header of 100 MB of brackets must neither exhaust the stack nor take memory by the value, and
/// the largest real headers (some 5,000 entries) must open in milliseconds: hence not a general
/// decoder.
struct JSONCursor {
  /// The limit of nesting, as in `serde_json`, which the `safetensors` crate uses.
  static let maximumDepth = 128

  private let bytes: UnsafeRawBufferPointer
  private(set) var position = 0
  private let path: String
  /// The tensor whose entry is being read, for error messages.
  var key: String?

  init(_ bytes: UnsafeRawBufferPointer, path: String) {
    self.bytes = bytes
    self.path = path
  }

  /// The next byte that is not white space.
  mutating func peek() -> UInt8? {
    while position < bytes.count {
      let byte = bytes[position]
      guard byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 else { return byte }
      position += 1
    }
    return nil
  }

  mutating func isNext(_ character: Unicode.Scalar) -> Bool { peek() == UInt8(ascii: character) }

  /// Whether the very next byte is one of these.
  private func isAt(_ characters: Unicode.Scalar...) -> Bool {
    position < bytes.count && characters.contains(Unicode.Scalar(bytes[position]))
  }

  mutating func skip(_ character: Unicode.Scalar) throws(TensorFileError) {
    guard peek() == UInt8(ascii: character) else { throw notJSON("'\(character)' is missing") }
    position += 1
  }

  mutating func expectEnd() throws(TensorFileError) {
    guard peek() == nil else { throw notJSON("there is more after the end of the object") }
  }

  /// Steps to the next member of an object whose `{` has been skipped: its name, or nil after
  /// skipping the `}`.
  mutating func nextKey(isFirst: inout Bool) throws(TensorFileError) -> String? {
    if peek() == UInt8(ascii: "}") {
      position += 1
      return nil
    }
    if !isFirst { try skip(",") }
    isFirst = false
    let name = try string()
    try skip(":")
    return name
  }

  /// Steps to the next element of an array whose `[` has been skipped; false after skipping the
  /// `]`.
  mutating func nextElement(isFirst: inout Bool) throws(TensorFileError) -> Bool {
    if peek() == UInt8(ascii: "]") {
      position += 1
      return false
    }
    if !isFirst { try skip(",") }
    isFirst = false
    return true
  }

  mutating func string() throws(TensorFileError) -> String {
    try skip("\"")
    let start = position
    var highBits = skipPlainBytes()
    guard position < bytes.count else { throw notJSON("a string has no end") }
    if bytes[position] == UInt8(ascii: "\"") {
      defer { position += 1 }
      return try valid(
        Self.text(UnsafeRawBufferPointer(rebasing: bytes[start..<position]), highBits: highBits))
    }
    // With escapes: plain runs are copied whole.
    var decoded = [UInt8](UnsafeRawBufferPointer(rebasing: bytes[start..<position]))
    while position < bytes.count {
      let byte = bytes[position]
      switch byte {
      case UInt8(ascii: "\""):
        position += 1
        return try valid(decoded.withUnsafeBytes { Self.text($0, highBits: highBits) })
      case UInt8(ascii: "\\"):
        position += 1
        try escape(into: &decoded, &highBits)
      case 0..<0x20: throw notJSON("a control character stands in a string")
      default:
        let run = position
        highBits |= skipPlainBytes()
        decoded.append(contentsOf: UnsafeRawBufferPointer(rebasing: bytes[run..<position]))
      }
    }
    throw notJSON("a string has no end")
  }

  /// Steps to the next byte that a string can't hold unescaped - a quote, a backslash, a control
  /// character - eight bytes at a time: a header can be 100 MB of metadata.
  ///
  /// - Returns: all bytes on the way, combined by "or".
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

  private func valid(_ text: String?) throws(TensorFileError) -> String {
    guard let text else { throw notJSON("a string is not UTF-8") }
    return text
  }

  /// - Parameter highBits: the bytes combined by "or"; without the top bit of any they are ASCII.
  /// - Returns: nil for what is not UTF-8.
  private static func text(_ utf8: UnsafeRawBufferPointer, highBits: UInt64) -> String? {
    var text = String(decoding: utf8, as: UTF8.self)
    guard highBits & 0x8080_8080_8080_8080 != 0, let start = utf8.baseAddress else { return text }
    // Invalid UTF-8 has been repaired, and differs now.
    let isSame = text.withUTF8 { copy in
      copy.count == utf8.count
        && copy.baseAddress.map { memcmp($0, start, utf8.count) == 0 } ?? true
    }
    return isSame ? text : nil
  }

  /// An object whose values are all strings: a file's metadata.
  mutating func texts() throws(TensorFileError) -> [String: String] {
    guard isNext("{") else { throw mismatch("the metadata must be an object of strings") }
    try skip("{")
    var texts: [String: String] = [:]
    var isFirst = true
    while let key = try nextKey(isFirst: &isFirst) {
      guard isNext("\"") else {
        throw mismatch("the metadata's \"\(key.displayed())\" must be a string")
      }
      guard texts.updateValue(try string(), forKey: key) == nil else {
        throw TensorFileError(
          .duplicateKey, path: path, key: key, "the header holds this key twice")
      }
    }
    return texts
  }

  /// Appends the character of the escape whose backslash has been skipped.
  private mutating func escape(
    into decoded: inout [UInt8], _ highBits: inout UInt64
  ) throws(TensorFileError) {
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
        else { throw notJSON("half a surrogate pair stands in a string") }
        position += 2
        let low = try hexadecimal()
        guard (0xDC00..<0xE000).contains(low) else {
          throw notJSON("half a surrogate pair stands in a string")
        }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else {
        throw notJSON("half a surrogate pair stands in a string")
      }
      for unit in String(Character(scalar)).utf8 {
        highBits |= UInt64(unit)
        decoded.append(unit)
      }
    default: throw notJSON("a string has an unknown escape")
    }
  }

  private mutating func hexadecimal() throws(TensorFileError) -> UInt32 {
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

  /// An integer of at least 0, in the range of `Int`; `what` names it in the error.
  mutating func wholeNumber(_ what: String) throws(TensorFileError) -> Int {
    guard let first = peek(), (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) else {
      throw mismatch("\(what) must be integers of at least 0")
    }
    let start = position
    var value = 0
    var overflow = false
    while position < bytes.count, case let digit = bytes[position],
      (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit)
    {
      let (tens, tooLarge) = value.multipliedReportingOverflow(by: 10)
      let (sum, stillTooLarge) = tens.addingReportingOverflow(Int(digit - UInt8(ascii: "0")))
      overflow = overflow || tooLarge || stillTooLarge
      value = sum
      position += 1
    }
    if first == UInt8(ascii: "0"), position > start + 1 { throw notJSON("a number begins with 0") }
    if isAt(".", "e", "E") {
      position = start
      throw mismatch("\(what) must be integers of at least 0")
    }
    guard !overflow else { throw wrong("\(what) are too large") }
    return value
  }

  /// The error for a value of another type than the format asks for; that it is not JSON, where it
  /// is none.
  mutating func mismatch(_ message: String) -> TensorFileError {
    do throws(TensorFileError) {
      try skipValue()
      return wrong(message)
    } catch {
      return error
    }
  }

  /// Steps over any value.
  mutating func skipValue(depth: Int = 1) throws(TensorFileError) {
    guard depth <= Self.maximumDepth else { throw notJSON("values are nested too deeply") }
    switch peek() {
    case UInt8(ascii: "{"):
      position += 1
      var isFirst = true
      while try nextKey(isFirst: &isFirst) != nil { try skipValue(depth: depth + 1) }
    case UInt8(ascii: "["):
      position += 1
      var isFirst = true
      while try nextElement(isFirst: &isFirst) { try skipValue(depth: depth + 1) }
    case UInt8(ascii: "\""): _ = try string()
    case UInt8(ascii: "t"): try skipWord("true")
    case UInt8(ascii: "f"): try skipWord("false")
    case UInt8(ascii: "n"): try skipWord("null")
    default: try skipNumber()
    }
  }

  /// Reads any value.
  ///
  /// - Throws: `TensorFileError` for text that is not JSON, an object with two members of one name,
  ///   and a number beyond the range of `Double`.
  mutating func value(depth: Int = 1) throws(TensorFileError) -> JSONTree {
    guard depth <= Self.maximumDepth else { throw notJSON("values are nested too deeply") }
    switch peek() {
    case UInt8(ascii: "{"):
      position += 1
      var members: [String: JSONTree] = [:]
      var isFirst = true
      while let name = try nextKey(isFirst: &isFirst) {
        guard members.updateValue(try value(depth: depth + 1), forKey: name) == nil else {
          throw TensorFileError(
            .duplicateKey, path: path, key: key,
            "an object has two members named \"\(name.displayed(limit: 40))\"")
        }
      }
      return .object(members)
    case UInt8(ascii: "["):
      position += 1
      var items: [JSONTree] = []
      var isFirst = true
      while try nextElement(isFirst: &isFirst) { items.append(try value(depth: depth + 1)) }
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
    default:
      let start = position
      try skipNumber()
      let text = String(
        decoding: UnsafeRawBufferPointer(rebasing: bytes[start..<position]), as: UTF8.self)
      guard let number = Double(text), number.isFinite else {
        throw notJSON("a number is too large")
      }
      return .number(number)
    }
  }

  mutating func skipWord(_ word: StaticString) throws(TensorFileError) {
    _ = peek()
    let rest = bytes[min(position, bytes.count)...].prefix(word.utf8CodeUnitCount)
    guard
      rest.elementsEqual(UnsafeBufferPointer(start: word.utf8Start, count: word.utf8CodeUnitCount))
    else {
      throw notJSON("this is not a value")
    }
    position += word.utf8CodeUnitCount
  }

  private mutating func skipNumber() throws(TensorFileError) {
    if isNext("-") { position += 1 }
    let start = position
    let whole = skipDigits()
    guard whole > 0, whole == 1 || bytes[start] != UInt8(ascii: "0") else {
      throw notJSON("this is not a value")
    }
    if isAt(".") {
      position += 1
      guard skipDigits() > 0 else { throw notJSON("a number ends in a point") }
    }
    if isAt("e", "E") {
      position += 1
      if isAt("+", "-") { position += 1 }
      guard skipDigits() > 0 else { throw notJSON("a number has no exponent") }
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

  func wrong(_ message: String) -> TensorFileError {
    TensorFileError(.badEntry, path: path, key: key, message)
  }

  func notJSON(_ message: String) -> TensorFileError {
    TensorFileError(
      .notJSON, path: path, key: key, "not valid JSON at byte \(position): \(message)")
  }
}
