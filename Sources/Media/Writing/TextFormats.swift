/// Escapes arbitrary text for files that other programs read. Text is processed by Unicode scalars,
/// not by characters: a quotation mark with a combining accent still ends a field or an attribute.
package enum TextFormats {
  /// Text in an HTML element or a quoted attribute.
  package static func html(_ text: String) -> String {
    var result = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": result.append(contentsOf: "&amp;".unicodeScalars)
      case "<": result.append(contentsOf: "&lt;".unicodeScalars)
      case ">": result.append(contentsOf: "&gt;".unicodeScalars)
      case "\"": result.append(contentsOf: "&quot;".unicodeScalars)
      case "'": result.append(contentsOf: "&#39;".unicodeScalars)
      case "\n", "\t": result.append(scalar)
      // Control characters, which HTML doesn't allow.
      case _ where scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value):
        result.append("\u{FFFD}")
      default: result.append(scalar)
      }
    }
    return String(result)
  }

  /// A field of comma-separated values (RFC 4180), quoted if it contains commas, quotes or line
  /// ends, or begins or ends with a space.
  package static func csvField(_ text: String) -> String {
    let scalars = text.unicodeScalars
    let isBlank = { (scalar: Unicode.Scalar?) in scalar == " " || scalar == "\t" }
    guard
      scalars.contains(where: { $0 == "," || $0 == "\"" || $0 == "\n" || $0 == "\r" })
        || isBlank(scalars.first) || isBlank(scalars.last)
    else { return text }
    var result: String.UnicodeScalarView = "\"".unicodeScalars
    for scalar in scalars {
      if scalar == "\"" { result.append(scalar) }
      result.append(scalar)
    }
    result.append("\"")
    return String(result)
  }
}

/// The first lines of a list that can be long, and the number of remaining ones.
///
/// - Parameter rest: Returns the last line for the number of omitted lines, such as `1,234`.
public func capped(_ lines: [String], at limit: Int = 20, rest: (String) -> String) -> [String] {
  guard lines.count > limit else { return lines }
  return lines.prefix(limit) + [rest(grouped(lines.count - limit))]
}
