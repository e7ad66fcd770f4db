import Support

/// Reads a tokenizer's file front to back, with errors that name the file and the line.
///
/// Large tables are passed on entry by entry, with strings as UTF-8 bytes, so that a vocabulary of
/// 262,144 tokens never becomes a tree.
struct JSONReader {
  let file: String
  private var json: JSONCursor

  /// - Parameter bytes: UTF-8 that must outlive the reader.
  init(_ bytes: UnsafeRawBufferPointer, file: String) {
    self.file = file
    json = JSONCursor(bytes)
  }

  private mutating func reading<R>(
    _ body: (inout JSONCursor) throws(JSONError) -> R
  ) throws(Issue) -> R {
    do { return try body(&json) } catch { throw malformed(error) }
  }

  private func malformed(_ error: JSONError) -> Issue {
    Issue(
      [.file(file), .line(error.line)], "not valid JSON: \(error.problem)",
      suggestion: "The file may be truncated or damaged; download it again.")
  }

  mutating func value() throws(Issue) -> JSON {
    try reading { json throws(JSONError) in try json.value() }
  }

  /// Calls `body` with each key; `body` must read exactly one value.
  mutating func forEachMember(
    _ body: ([UInt8], inout JSONReader) throws(Issue) -> Void
  ) throws(Issue) {
    try reading { json throws(JSONError) in try json.beginObject() }
    var isFirst = true
    while let key = try reading({ json throws(JSONError) in
      try json.nextKeyBytes(isFirst: &isFirst)
    }) {
      try body(key, &self)
    }
  }

  /// Calls `body` once for each element; `body` must read exactly one value.
  mutating func forEachElement(
    _ body: (inout JSONReader) throws(Issue) -> Void
  ) throws(Issue) {
    try reading { json throws(JSONError) in try json.beginArray() }
    var isFirst = true
    while try reading({ json throws(JSONError) in try json.nextElement(isFirst: &isFirst) }) {
      try body(&self)
    }
  }

  mutating func isNext(_ character: Unicode.Scalar) -> Bool { json.isNext(character) }

  mutating func end() throws(Issue) {
    try reading { json throws(JSONError) in try json.expectEnd() }
  }

  /// A string as UTF-8 bytes, with escapes resolved.
  mutating func string() throws(Issue) -> [UInt8] {
    try reading { json throws(JSONError) in try json.stringBytes() }
  }

  /// The error for the second of two members with one name.
  func duplicate(_ key: String) -> Issue { malformed(json.duplicate(key)) }
}

/// A value together with its location, for error messages.
struct JSONField {
  let value: JSON
  let file: String
  let key: String

  var isNull: Bool { value == .null }

  /// A member; null if it is missing.
  subscript(_ name: String) -> JSONField {
    JSONField(value: value[name] ?? .null, file: file, key: key.isEmpty ? name : "\(key).\(name)")
  }

  func string() throws(Issue) -> String {
    guard case .string(let string) = value else { throw expected("a string") }
    return string
  }

  func bool(default missing: Bool? = nil) throws(Issue) -> Bool {
    if isNull, let missing { return missing }
    guard case .bool(let bool) = value else { throw expected("true or false") }
    return bool
  }

  func id() throws(Issue) -> UInt32 {
    guard case .number(let number) = value, let id = UInt32(number.text) else {
      throw expected("a token id (0 to \(UInt32.max))")
    }
    return id
  }

  func elements() throws(Issue) -> [JSONField] {
    guard case .array(let elements) = value else { throw expected("a list") }
    return elements.enumerated().map { JSONField(value: $1, file: file, key: "\(key)[\($0)]") }
  }

  func requireObject() throws(Issue) {
    guard case .object = value else { throw expected("an object") }
  }

  func expected(_ wanted: String) -> Issue {
    invalid(isNull ? "\(wanted) is missing" : "\(wanted) is wanted here, and this is \(value.kind)")
  }

  func invalid(_ problem: String) -> Issue { Issue(tokenizer: file, key, problem) }

  func unsupported(_ kind: String) -> Issue {
    Issue(
      tokenizer: file, key, "\(kind) is not supported",
      suggestion: "Only the parts that Gemma's and Qwen's tokenizers use are supported.")
  }
}

extension Issue {
  /// The error for an invalid value in a tokenizer file.
  init(tokenizer file: String, _ key: String, _ problem: String, suggestion: String? = nil) {
    self.init(
      [.file(file)] + (key.isEmpty ? [] : [.name(key)]), problem, suggestion: suggestion)
  }
}
