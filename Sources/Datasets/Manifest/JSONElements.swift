import Support

/// The elements of a JSON list with the lines on which they start. They are found without decoding
/// them, so that a damaged element does not affect the others.
struct JSONElements {
  struct Element {
    /// Counted from 1.
    let line: Int
    let text: ArraySlice<UInt8>
  }

  private(set) var elements: [Element] = []
  /// The problems between elements: extra commas, a missing end.
  private(set) var problems: [Issue] = []

  /// Nil if the text is not a list.
  init?(_ bytes: [UInt8]) {
    var scanner = Scanner(bytes)
    scanner.skipBlanks()
    guard scanner.current == UInt8(ascii: "[") else { return nil }
    scanner.step()
    while true {
      scanner.skipBlanks()
      let line = scanner.line
      switch scanner.current {
      case UInt8(ascii: ",")?:
        problems.append(
          Issue([.line(line)], "is not valid JSON: nothing precedes the comma"))
        scanner.step()
        continue
      case UInt8(ascii: "]")?:
        scanner.step()
        finish(&scanner)
        return
      case nil:
        problems.append(
          Issue([.line(line)], "is not valid JSON: the list has no end", suggestion: "Add a ]."))
        return
      default: break
      }
      elements.append(Element(line: line, text: scanner.element()))
      scanner.skipBlanks()
      guard scanner.current == UInt8(ascii: ",") else { continue }
      let comma = scanner.line
      scanner.step()
      scanner.skipBlanks()
      if scanner.current == UInt8(ascii: "]") {
        problems.append(
          Issue(
            [.line(comma)], "is not valid JSON: nothing follows the comma", suggestion: "Remove it."
          ))
      }
    }
  }

  private mutating func finish(_ scanner: inout Scanner) {
    scanner.skipBlanks()
    if scanner.current != nil {
      problems.append(Issue([.line(scanner.line)], "is not valid JSON: text follows the list"))
    }
  }
}

/// Finds the ends of values that may be damaged, counting lines. The values are parsed later.
private struct Scanner {
  private let bytes: [UInt8]
  private var position = 0
  private(set) var line = 1

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  static func isBlank(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: " ") || (9...13).contains(byte)
  }

  var current: UInt8? { position < bytes.endIndex ? bytes[position] : nil }

  mutating func step() {
    if current == UInt8(ascii: "\n") { line += 1 }
    position += 1
  }

  mutating func skipBlanks() {
    while let byte = current, Self.isBlank(byte) { step() }
  }

  /// Moves to the comma or bracket of the list that holds the element. An element that lacks its
  /// closing brackets ends before the next line that begins with a brace.
  mutating func element() -> ArraySlice<UInt8> {
    let start = position
    var depth = 0
    var startsLine = false
    while let byte = current {
      switch byte {
      case UInt8(ascii: "\""):
        skipString()
        startsLine = false
        continue
      case UInt8(ascii: ",") where depth == 0, UInt8(ascii: "]") where depth == 0:
        return bytes[start..<position]
      case UInt8(ascii: "}") where depth == 0:
        // An extra bracket ends only this element, which can't be read.
        step()
        return bytes[start..<position]
      case UInt8(ascii: "{") where startsLine && depth == 1 && bytes[start] == byte:
        return bytes[start..<position]
      case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
      case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
      default: break
      }
      startsLine = byte == UInt8(ascii: "\n") || startsLine && Self.isBlank(byte)
      step()
    }
    return bytes[start..<position]
  }

  /// Moves past the closing quote. Strings contain no line ends, so one that reaches its line's end
  /// was not closed.
  mutating func skipString() {
    step()
    while let byte = current, byte != UInt8(ascii: "\n") {
      step()
      if byte == UInt8(ascii: "\"") { return }
      if byte == UInt8(ascii: "\\"), current != UInt8(ascii: "\n"), current != nil { step() }
    }
  }
}
