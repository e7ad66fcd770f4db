import Foundation
import Generation

/// The progress of work on standard error: one line that is redrawn on a terminal, or an occasional
/// plain line in a log.
final class ProgressLine {
  private let label: String
  private let unit: String
  private let total: Int?
  private let isTerminal = Terminal.shared.canRedraw
  private let start = Date()
  private let alreadyDone: Int
  private var lastShown = Date.distantPast

  /// - Parameters:
  ///   - label: the name of the work, such as `training`.
  ///   - total: nil if it is unknown.
  ///   - unit: the unit of the count, such as `steps`.
  ///   - alreadyDone: the count from earlier runs, which is not included in the rate.
  init(_ label: String, total: Int?, unit: String, alreadyDone: Int = 0) {
    self.label = label
    self.total = total
    self.unit = unit
    self.alreadyDone = alreadyDone
  }

  /// - Parameter detail: additional text, such as `loss 0.123`.
  func update(_ done: Int, _ detail: String = "") {
    let isLast = done == total
    let interval = isTerminal ? 0.1 : 5
    guard isLast || Date().timeIntervalSince(lastShown) >= interval else { return }
    lastShown = Date()
    let elapsed = Date().timeIntervalSince(start)
    // Too little time has passed to compute a rate.
    let rate = elapsed > 1e-3 ? Double(done - alreadyDone) / elapsed : 0
    var line = label + (isTerminal ? total.map { " " + Self.bar(done, of: $0) } ?? ":" : ":")
    line += " \(done)" + (total.map { "/\($0)" } ?? "") + " \(unit)"
    if rate > 0 {
      line += String(format: ", %.3g %@/s", rate, unit)
      if let total, !isLast { line += ", \(Self.time(Double(total - done) / rate)) left" }
    }
    if !detail.isEmpty { line += ", \(detail)" }
    if isTerminal {
      Terminal.shared.draw([line])
    } else {
      printError(line)
    }
  }

  /// Ends the line.
  func finish() {
    if isTerminal { Terminal.shared.finish() }
  }

  /// A bar of 24 columns, drawn in halves.
  private static func bar(_ done: Int, of total: Int) -> String {
    let columns = 24
    let halves = total > 0 ? min(2 * columns, 2 * columns * done / total) : 2 * columns
    let full = String(repeating: "━", count: halves / 2) + (halves % 2 == 1 ? "╸" : "")
    return "[\(full)\(String(repeating: " ", count: columns - (halves + 1) / 2))]"
  }

  private static func time(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds < 1e7 else { return "long" }
    let s = Int(seconds.rounded(.up))
    return s < 60
      ? "\(s) s"
      : s < 3600
        ? String(format: "%d:%02d min", s / 60, s % 60)
        : String(format: "%d:%02d h", s / 3600, s / 60 % 60)
  }
}

/// The progress of work in several phases, with a line for each.
final class PhasedProgress {
  private var label: String?
  private var line: ProgressLine?

  /// - Parameter label: the name of the phase; a new one begins a new line.
  func show(_ label: String, _ done: Int, of total: Int?, unit: String, _ detail: String = "") {
    if label != self.label {
      finish()
      self.label = label
      line = ProgressLine(label, total: total, unit: unit)
    }
    line?.update(done, detail)
  }

  /// Shows the progress of a stage of generation.
  func show(_ progress: GenerationProgress) {
    show(
      progress.stage.title, progress.done, of: progress.total, unit: progress.stage.unit,
      progress.done == 0 ? "loading" : "")
  }

  /// Ends the line of the last phase.
  func finish() {
    line?.finish()
    line = nil
    label = nil
  }
}

/// `1 row`, `2 rows`.
func counted(_ count: Int, _ noun: String) -> String { "\(count) \(noun)\(count == 1 ? "" : "s")" }
