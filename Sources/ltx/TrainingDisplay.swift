import Foundation
import Tracking
import Training

/// Shows a run on standard error: two lines that are redrawn on a terminal, or occasional plain
/// lines in a log.
final class TrainingDisplay {
  private let isShown: Bool
  private let isTerminal = Terminal.shared.canRedraw
  /// The time at which the first step began.
  private var start: ContinuousClock.Instant?
  private let totalSteps: Int
  private var view: TrainingView
  private var pace = LogPace()
  private var lastDrawn: ContinuousClock.Instant?

  init(totalSteps: Int, resumingAfter step: Int, isShown: Bool) {
    (self.totalSteps, self.isShown) = (totalSteps, isShown)
    view = TrainingView(totalSteps: totalSteps, resumingAfter: step)
  }

  /// The moving mean of the loss.
  var loss: Double? { view.loss }

  func show(_ record: StepRecord) {
    guard isShown else { return }
    let now = ContinuousClock.now
    let start = self.start ?? now - .seconds(record.seconds)
    self.start = start
    let elapsed = (now - start) / .seconds(1)
    view.add(record, elapsed: elapsed)
    let isLast = record.step == totalSteps
    guard isTerminal else {
      if pace.isDue(at: elapsed, isLast: isLast), let line = view.plainLine { printError(line) }
      return
    }
    guard isLast || lastDrawn.map({ now - $0 >= .milliseconds(100) }) ?? true else { return }
    lastDrawn = now
    draw()
  }

  /// Shows the progress of validation samples in place of the view, on a terminal only.
  func sampling(_ progress: ValidationProgress) {
    guard isShown, isTerminal else { return }
    let now = ContinuousClock.now
    guard lastDrawn.map({ now - $0 >= .milliseconds(100) }) ?? true else { return }
    lastDrawn = now
    let stage = progress.stage
    let line =
      "sample \(progress.position + 1)/\(progress.count): \(stage.stage.title.lowercased()) "
      + "\(stage.done)/\(stage.total)"
    Terminal.shared.draw([line])
  }

  /// Prints a line above the view.
  func say(_ line: String) {
    guard isShown else { return }
    printError(line)
  }

  func finish() {
    if isShown, isTerminal { Terminal.shared.finish() }
  }

  private func draw() {
    let lines = view.lines(width: Terminal.columns - 1)
    if !lines.isEmpty { Terminal.shared.draw(lines) }
  }
}
