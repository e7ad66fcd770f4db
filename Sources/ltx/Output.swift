// Everything that the program writes to its standard streams.

import Foundation
import Media
import Support
import Synchronization
import TensorFiles

/// Writes to standard output. In this module it replaces Swift's own `print`, which ignores
/// failures; `LTXCommand.main` checks for them.
func print(_ items: Any..., separator: String = " ", terminator: String = "\n") {
  let text = items.map { "\($0)" }.joined(separator: separator) + terminator
  Terminal.shared.interrupting(isatty(STDOUT_FILENO) == 1) { StandardStream.output.write(text) }
}

/// Writes one or more lines to standard error, with control characters escaped.
func printError(_ line: String) {
  let line = line.displayedLines()
  Terminal.shared.interrupting { StandardStream.error.write(line + "\n") }
}

/// Says which encoder writes videos if it isn't x264.
func printEncoderNote() {
  if let note = VideoWriter.Codec.note { printError("note: \(note)") }
}

/// A command whose result is its output, so that it fails if it can't print.
protocol PrintsItsResult {
  /// Whether the result is the output with the given options.
  var printsItsResult: Bool { get }
}

extension PrintsItsResult {
  var printsItsResult: Bool { true }
}

/// The terminal on standard error, and the lines at its bottom that show progress.
final class Terminal: Sendable {
  static let shared = Terminal()

  /// Whether lines can be redrawn: standard error is a terminal that can move its cursor.
  let canRedraw: Bool = {
    guard isatty(STDERR_FILENO) == 1 else { return false }
    let type = ProcessInfo.processInfo.environment["TERM"] ?? ""
    return !["", "dumb", "unknown"].contains(type)
  }()

  private let state = Mutex((lines: TerminalLines(), texts: [String]()))

  /// Draws lines in place of the previous ones.
  func draw(_ texts: [String]) {
    state.withLock { state in
      state.texts = texts
      StandardStream.error.write(state.lines.drawing(texts, columns: Self.columns))
    }
  }

  /// Keeps the current lines; later output appears below them.
  func finish() {
    state.withLock { state in
      StandardStream.error.write(state.lines.ending())
      state.texts = []
    }
  }

  /// Runs a closure that writes to the terminal, above the lines.
  func interrupting(_ isOnTerminal: Bool = true, _ body: () -> Void) {
    state.withLock { state in
      guard isOnTerminal, !state.lines.isEmpty else { return body() }
      StandardStream.error.write(state.lines.clearing(columns: Self.columns))
      body()
      StandardStream.error.write(state.lines.drawing(state.texts, columns: Self.columns))
    }
  }

  /// The current width of the terminal window.
  static var columns: Int {
    var size = winsize()
    guard ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
    return Int(size.ws_col)
  }
}
