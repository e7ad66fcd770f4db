/// The lines at the bottom of a terminal that are redrawn repeatedly. Returns the characters to
/// write; the caller writes them.
public struct TerminalLines: Sendable {
  /// The width in columns of each line that is on screen now.
  private var drawn: [Int] = []

  public init() {}

  public var isEmpty: Bool { drawn.isEmpty }

  /// Draws lines in place of the previous ones. The cursor stays at the end of the last one.
  ///
  /// - Parameter columns: The current width of the terminal; longer lines are cut, so that none of
  ///   them wraps.
  public mutating func drawing(_ lines: [String], columns: Int) -> String {
    // A line that fills the last column leaves the cursor in different places on different
    // terminals.
    let width = max(1, columns - 1)
    let lines = lines.map { String($0.prefix(width)) }
    defer { drawn = lines.map(\.count) }
    // Each line clears the rest of the old one, the last also all lines below.
    return start(columns: columns) + lines.map { $0 + "\u{1B}[K" }.joined(separator: "\n")
      + "\u{1B}[J"
  }

  /// Removes the lines. The cursor stays where the first one began.
  public mutating func clearing(columns: Int) -> String {
    guard !drawn.isEmpty else { return "" }
    defer { drawn = [] }
    return start(columns: columns) + "\u{1B}[J"
  }

  /// Keeps the lines on screen, and begins a new one below.
  public mutating func ending() -> String {
    defer { drawn = [] }
    return drawn.isEmpty ? "" : "\n"
  }

  /// Moves to the beginning of the first line. A line that was drawn before the window became
  /// narrower takes several rows now.
  private func start(columns: Int) -> String {
    let rows = drawn.reduce(0) { $0 + max(1, ($1 + max(1, columns) - 1) / max(1, columns)) }
    return "\r" + (rows > 1 ? "\u{1B}[\(rows - 1)A" : "")
  }
}
