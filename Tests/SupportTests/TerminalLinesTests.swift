import Support
import Testing

@Suite struct TerminalLinesTests {
  @Test func linesReplaceThoseBeforeInAsManyRowsAsTheWindowShowsThemInNow() {
    var lines = TerminalLines()
    #expect(lines.drawing(["ab", "cd"], columns: 10) == "\rab\u{1B}[K\ncd\u{1B}[K\u{1B}[J")
    #expect(lines.drawing(["e"], columns: 10) == "\r\u{1B}[1Ae\u{1B}[K\u{1B}[J")
    #expect(
      lines.drawing(["0123456789abc", "x"], columns: 80)
        == "\r0123456789abc\u{1B}[K\nx\u{1B}[K\u{1B}[J")
    // 13 columns take three rows of six.
    #expect(
      lines.drawing(["0123456789abc", "x"], columns: 6)
        == "\r\u{1B}[3A01234\u{1B}[K\nx\u{1B}[K\u{1B}[J")
    #expect(lines.clearing(columns: 6) == "\r\u{1B}[1A\u{1B}[J")
    #expect(lines.isEmpty && lines.ending().isEmpty && lines.clearing(columns: 6).isEmpty)
  }

  @Test func aShrunkenWindowShowsNoLineTwice() {
    var screen = Screen(columns: 40)
    var lines = TerminalLines()
    screen.feed("earlier\n")
    screen.feed(lines.drawing([String(repeating: "=", count: 39), "loss 1"], columns: 40))
    for columns in [25, 12, 7, 39] {
      screen.resize(columns: columns)
      screen.feed(
        lines.drawing([String(repeating: "=", count: columns - 1), "loss 2"], columns: columns))
      #expect(screen.text.hasSuffix(String(repeating: "=", count: columns - 1) + "\nloss 2"))
      #expect(
        screen.text.hasPrefix("earlier\n") && screen.text.split(separator: "\n").count == 3,
        "\(screen.text)")
    }
  }
}

/// A terminal that rewraps its lines when its window is resized.
private struct Screen {
  var columns: Int
  /// The unwrapped lines, and the position of the cursor in them.
  var lines: [[Character]] = [[]]
  var line = 0
  var column = 0
  /// Whether the last column was filled: the cursor stays there until the next character.
  var isFull = false

  init(columns: Int) { self.columns = columns }

  mutating func resize(columns: Int) {
    self.columns = columns
    isFull = column > 0 && column % columns == 0
  }

  var text: String { lines.map { String($0) }.joined(separator: "\n") }

  /// The number of rows of a line.
  private func rows(_ line: Int) -> Int { max(1, (lines[line].count + columns - 1) / columns) }

  private var rowInLine: Int { (isFull ? column - 1 : column) / columns }

  mutating func feed(_ text: String) {
    var rest = Substring(text)
    while let character = rest.popFirst() {
      switch character {
      case "\r":
        column = rowInLine * columns
        isFull = false
      case "\n":
        line += 1
        (column, isFull) = (0, false)
        if line == lines.count { lines.append([]) }
      case "\u{1B}":
        let parameters = rest.dropFirst().prefix { $0.isNumber }
        rest = rest.dropFirst(1 + parameters.count)
        switch rest.popFirst() {
        case "A":
          var row = (0..<line).reduce(0) { $0 + rows($1) } + rowInLine
          row = max(0, row - (Int(parameters) ?? 1))
          line = 0
          while row >= rows(line) {
            row -= rows(line)
            line += 1
          }
          column = row * columns
          isFull = false
        case "K": lines[line].removeLast(max(0, lines[line].count - column))
        case "J":
          lines[line].removeLast(max(0, lines[line].count - column))
          lines.removeLast(lines.count - line - 1)
        default: break
        }
      default:
        if column < lines[line].count {
          lines[line][column] = character
        } else {
          lines[line].append(character)
        }
        column += 1
        isFull = column % columns == 0
      }
    }
  }
}
