import Foundation

/// The layout of JSON text.
public struct JSONFormat: Sendable {
  /// Writes the members of objects in alphabetical order, instead of their own.
  public var sortsKeys: Bool
  /// Writes one value per line, indented by two spaces, with a space on both sides of colons, like
  /// Foundation.
  public var isPretty: Bool
  /// Writes numbers as `JSONNumber.normalized`, instead of with their own digits.
  public var normalizesNumbers: Bool
  public var escapes: JSON.Escapes

  public init(
    sortsKeys: Bool = true, isPretty: Bool = false, normalizesNumbers: Bool = false,
    escapes: JSON.Escapes = .required
  ) {
    (self.sortsKeys, self.isPretty) = (sortsKeys, isPretty)
    (self.normalizesNumbers, self.escapes) = (normalizesNumbers, escapes)
  }

  /// On one line, keys in alphabetical order.
  public static let compact = JSONFormat()
  /// For people: one value per line, keys in alphabetical order.
  public static let pretty = JSONFormat(isPretty: true)
}

extension JSON {
  /// The characters of a string that are written as escapes.
  public enum Escapes: Sendable {
    /// Those that JSON requires.
    case required
    /// Slashes too, so that the text can be part of a page's script.
    case slashes
    /// All invisible characters too: such a string is also valid in YAML.
    case invisible
  }

  /// The value as text.
  public func text(_ format: JSONFormat = .compact) -> String {
    String(decoding: utf8(format), as: UTF8.self)
  }

  /// The value as text in UTF-8.
  public func data(_ format: JSONFormat = .compact) -> Data { Data(utf8(format)) }

  private func utf8(_ format: JSONFormat) -> [UInt8] {
    var text: [UInt8] = []
    write(to: &text, format, indentation: 0)
    return text
  }

  private func write(to text: inout [UInt8], _ format: JSONFormat, indentation: Int) {
    switch self {
    case .null: text += "null".utf8
    case .bool(let value): text += (value ? "true" : "false").utf8
    case .number(let value): text += (format.normalizesNumbers ? value.normalized : value.text).utf8
    case .string(let value): Self.write(value, to: &text, format.escapes)
    case .array(let items):
      Self.write(items, in: ("[", "]"), to: &text, format, indentation) { item, text in
        item.write(to: &text, format, indentation: indentation + 1)
      }
    case .object(let members):
      let members = format.sortsKeys ? members.sorted { $0.key < $1.key } : Array(members)
      Self.write(members, in: ("{", "}"), to: &text, format, indentation) { member, text in
        Self.write(member.key, to: &text, format.escapes)
        text += (format.isPretty ? " : " : ":").utf8
        member.value.write(to: &text, format, indentation: indentation + 1)
      }
    }
  }

  private static func write<Item>(
    _ items: [Item], in brackets: (String, String), to text: inout [UInt8], _ format: JSONFormat,
    _ indentation: Int, _ write: (Item, inout [UInt8]) -> Void
  ) {
    func newLine(_ levels: Int) {
      text.append(UInt8(ascii: "\n"))
      text.append(contentsOf: repeatElement(UInt8(ascii: " "), count: 2 * levels))
    }
    text += brackets.0.utf8
    for (index, item) in items.enumerated() {
      if index > 0 { text.append(UInt8(ascii: ",")) }
      if format.isPretty { newLine(indentation + 1) }
      write(item, &text)
    }
    if format.isPretty {
      if items.isEmpty { text.append(UInt8(ascii: "\n")) }
      newLine(indentation)
    }
    text += brackets.1.utf8
  }

  /// A string with its quotation marks.
  public static func quoted(_ string: String, escapes: Escapes = .required) -> String {
    var text: [UInt8] = []
    write(string, to: &text, escapes)
    return String(decoding: text, as: UTF8.self)
  }

  private static func write(_ string: String, to text: inout [UInt8], _ escapes: Escapes) {
    text.append(UInt8(ascii: "\""))
    for scalar in string.unicodeScalars {
      switch scalar {
      case "\"", "\\": text += "\\\(scalar)".utf8
      case "/" where escapes == .slashes: text += "\\/".utf8
      case "\n": text += "\\n".utf8
      case "\r": text += "\\r".utf8
      case "\t": text += "\\t".utf8
      case "\u{8}": text += "\\b".utf8
      case "\u{C}": text += "\\f".utf8
      case "\0"..<" ": text += code(scalar).utf8
      case "\u{7F}"..<"\u{A0}" where escapes == .invisible,
        "\u{2028}" where escapes == .invisible, "\u{2029}" where escapes == .invisible:
        text += code(scalar).utf8
      case "\0"..<"\u{80}": text.append(UInt8(scalar.value))
      default: text += UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter
      }
    }
    text.append(UInt8(ascii: "\""))
  }

  private static func code(_ scalar: Unicode.Scalar) -> String {
    let digits = String(scalar.value, radix: 16)
    return "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
  }
}
