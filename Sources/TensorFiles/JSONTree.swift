/// A JSON value of untrusted text: `JSONDecoder` accepts two members of one name and keeps one of
/// them.
public enum JSONTree: Sendable, Equatable {
  case null
  case bool(Bool)
  case number(Double)
  case string(String)
  case array([JSONTree])
  case object([String: JSONTree])

  /// Parses a whole text.
  ///
  /// - Parameters:
  ///   - text: UTF-8.
  ///   - path, key: the file and the key that hold the text, for errors.
  /// - Throws: `TensorFileError` of kind `.notJSON` or `.duplicateKey`.
  public init(
    parsing text: UnsafeRawBufferPointer, path: String, key: String? = nil
  ) throws(TensorFileError) {
    var cursor = JSONCursor(text, path: path)
    cursor.key = key
    self = try cursor.value()
    try cursor.expectEnd()
  }

  /// Parses a whole text.
  ///
  /// - Throws: as the other initializer.
  public init(parsing text: String, path: String, key: String? = nil) throws(TensorFileError) {
    var text = text
    let parsed = text.withUTF8 { bytes -> Result<JSONTree, TensorFileError> in
      Result { () throws(TensorFileError) in
        try JSONTree(parsing: UnsafeRawBufferPointer(bytes), path: path, key: key)
      }
    }
    self = try parsed.get()
  }
}
