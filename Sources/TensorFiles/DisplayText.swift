// Makes text from files safe to show in messages and on terminals. A key, a metadata value or a
// caption may be megabytes long, move the cursor, recolor the terminal or reorder the text.

extension String {
  /// The text on one line, for messages: at most `limit` characters, with control and invisible
  /// formatting characters escaped (`\n`, `\u{1b}`). Text that is cut shows its full size.
  ///
  /// - Parameter limit: The limit in Unicode scalars, since a visible character can consist of any
  ///   number of them.
  public func displayed(limit: Int = 200) -> String {
    let scalars = unicodeScalars
    let end = scalars.index(scalars.startIndex, offsetBy: limit, limitedBy: scalars.endIndex)
    let shown = Self.escaping(scalars[..<(end ?? scalars.endIndex)]) { _ in false }
    guard let end, end < scalars.endIndex else { return shown }
    return "\(shown)... (\(Self.size(utf8.count)) in all)"
  }

  /// The text on several lines, for terminals: escaped like `displayed`, except for line ends and
  /// tabs, with each line cut at `limit`.
  ///
  /// - Parameter limit: The limit in Unicode scalars.
  public func displayedLines(limit: Int = 4000) -> String {
    guard utf8.count > limit || unicodeScalars.contains(where: Self.isHidden) else { return self }
    return unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false).map { scalars in
      let end = scalars.index(scalars.startIndex, offsetBy: limit, limitedBy: scalars.endIndex)
      let shown = Self.escaping(scalars[..<(end ?? scalars.endIndex)]) { $0 == "\t" }
      guard let end, end < scalars.endIndex else { return shown }
      return "\(shown)... (\(Self.size(String(scalars).utf8.count)) in all)"
    }.joined(separator: "\n")
  }

  private static func escaping(
    _ scalars: Substring.UnicodeScalarView, except isKept: (Unicode.Scalar) -> Bool
  ) -> String {
    var result = ""
    for scalar in scalars {
      switch scalar {
      case _ where !isHidden(scalar) || isKept(scalar): result.unicodeScalars.append(scalar)
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      default: result += "\\u{\(String(scalar.value, radix: 16))}"
      }
    }
    return result
  }

  /// Whether a character is invisible or changes how others are shown: control characters, which
  /// terminals obey, marks that reverse the reading direction, and unusual line ends. The two
  /// joiners that scripts and emoji need are kept.
  private static func isHidden(_ scalar: Unicode.Scalar) -> Bool {
    if scalar.value < 0x7F { return scalar.value < 0x20 }
    if scalar == "\u{200C}" || scalar == "\u{200D}" { return false }
    switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse,
      .unassigned:
      return true
    default: return false
    }
  }

  /// Formats a size: 340 bytes, 26.0 MB.
  private static func size(_ bytes: Int) -> String {
    bytes < 1_000_000 ? "\(bytes) bytes" : "\(bytes / 1_000_000).\(bytes / 100_000 % 10) MB"
  }
}
