import Foundation
import Support

/// Reads the JSON of headers and indices, with errors that name the file and the tensor.
struct HeaderCursor {
  private var json: JSONCursor
  private let path: String
  /// The tensor whose entry is being read, for error messages.
  var key: String?

  init(_ bytes: UnsafeRawBufferPointer, path: String) {
    json = JSONCursor(bytes)
    self.path = path
  }

  private mutating func reading<R>(
    _ body: (inout JSONCursor) throws(JSONError) -> R
  ) throws(TensorFileError) -> R {
    do { return try body(&json) } catch {
      throw TensorFileError(
        .notJSON, path: path, key: key,
        "not valid JSON at byte \(error.offset): \(error.problem)")
    }
  }

  mutating func isNext(_ character: Unicode.Scalar) -> Bool { json.isNext(character) }

  mutating func beginObject() throws(TensorFileError) {
    try reading { json throws(JSONError) in try json.beginObject() }
  }

  mutating func beginArray() throws(TensorFileError) {
    try reading { json throws(JSONError) in try json.beginArray() }
  }

  mutating func nextKey(isFirst: inout Bool) throws(TensorFileError) -> String? {
    try reading { json throws(JSONError) in try json.nextKey(isFirst: &isFirst) }
  }

  mutating func nextElement(isFirst: inout Bool) throws(TensorFileError) -> Bool {
    try reading { json throws(JSONError) in try json.nextElement(isFirst: &isFirst) }
  }

  mutating func string() throws(TensorFileError) -> String {
    try reading { json throws(JSONError) in try json.string() }
  }

  mutating func skipValue() throws(TensorFileError) {
    try reading { json throws(JSONError) in try json.skipValue() }
  }

  mutating func expectEnd() throws(TensorFileError) {
    try reading { json throws(JSONError) in try json.expectEnd() }
  }

  /// Reads a nonnegative integer in the range of `Int`; `what` names it in the error.
  mutating func integer(_ what: String) throws(TensorFileError) -> Int {
    guard let first = json.peek(), (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) else {
      throw mismatch("\(what) must be integers of at least 0")
    }
    let text = try reading { json throws(JSONError) in try json.number() }.text
    guard text.utf8.allSatisfy((UInt8(ascii: "0")...UInt8(ascii: "9")).contains) else {
      throw wrong("\(what) must be integers of at least 0")
    }
    guard let number = Int(text) else { throw wrong("\(what) are too large") }
    return number
  }

  /// Reads an object whose values are all strings: a file's metadata.
  mutating func texts() throws(TensorFileError) -> [String: String] {
    guard isNext("{") else { throw mismatch("the metadata must be an object of strings") }
    try beginObject()
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

  /// The error for a value of the wrong type, or for text that isn't JSON.
  mutating func mismatch(_ message: String) -> TensorFileError {
    do throws(TensorFileError) {
      try skipValue()
      return wrong(message)
    } catch {
      return error
    }
  }

  func wrong(_ message: String) -> TensorFileError {
    TensorFileError(.badEntry, path: path, key: key, message)
  }
}
