// Text as Python's functions treat it, where files and models expect their results.

extension Unicode.Scalar {
  /// Whether Python's `str.strip` removes it: Unicode's white space and four information
  /// separators.
  public var isPythonSpace: Bool {
    properties.isWhitespace || (0x1C...0x1F).contains(value)
  }
}

extension String {
  /// The text after Python's `str.strip()`.
  public var strippedLikePython: String {
    let scalars = unicodeScalars
    guard let first = scalars.firstIndex(where: { !$0.isPythonSpace }),
      let last = scalars.lastIndex(where: { !$0.isPythonSpace })
    else { return "" }
    return String(scalars[first...last])
  }
}
