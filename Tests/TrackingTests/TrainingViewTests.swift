import Testing

@testable import Tracking

@Suite struct TrainingViewTests {
  private func record(
    _ step: Int, loss: Double = 0.25, seconds: Double = 0.5, bytes: Int? = 3 << 30,
    skipped: String? = nil
  ) -> StepRecord {
    StepRecord(
      step: step, loss: loss, gradientNorm: 0.5, learningRate: 1e-4, seconds: seconds,
      tensorBytes: bytes,
      skipped: skipped)
  }

  private func view(_ step: Int = 500, of total: Int = 1000) -> TrainingView {
    var view = TrainingView(totalSteps: total, resumingAfter: step - 100)
    view.add(record(step), elapsed: 60)
    return view
  }

  @Test func aWideTerminal() {
    #expect(
      view().lines(width: 120) == [
        "step 500/1000 [━━━━━━━━━━━━━━━━━━━━                    ]  50%  2 it/s  5:00 min left",
        "loss 0.2500  mean 0.2500  lr 1.00e-04  |grad| 0.5000  3.00 GiB",
      ])
  }

  @Test func aNarrowTerminalLosesTheBarAndTheLeastImportant() {
    #expect(
      view().lines(width: 56) == [
        "step 500/1000 [━━━━━━      ]  50%  2 it/s  5:00 min left",
        "loss 0.2500  mean 0.2500  lr 1.00e-04  |grad| 0.5000",
      ])
    #expect(view().lines(width: 28) == ["step 500/1000  50%  2 it/s", "loss 0.2500  mean 0.2500"])
    #expect(view().lines(width: 12) == ["step 500/100", "loss 0.2500"])
  }

  @Test(arguments: Array(0...140))
  func noLineIsWiderThanTheTerminal(width: Int) {
    for line in view(99_999, of: 100_000).lines(width: width) { #expect(line.count <= width) }
  }

  @Test func logLines() {
    #expect(
      view().plainLine
        == "step 500/1000, loss 0.2500, mean 0.2500, lr 1.00e-04, |grad| 0.5000, 3.00 GiB, 2 it/s, 5:00 min left"
    )
  }

  @Test func beforeTheFirstStepThereIsNothing() {
    let view = TrainingView(totalSteps: 10, resumingAfter: 0)
    #expect(view.lines(width: 80).isEmpty && view.plainLine == nil && view.loss == nil)
  }

  @Test func withoutTimeThereIsNoRate() {
    var view = TrainingView(totalSteps: 10, resumingAfter: 0)
    view.add(record(1, seconds: 0, bytes: nil), elapsed: 0)
    #expect(view.plainLine == "step 1/10, loss 0.2500, mean 0.2500, lr 1.00e-04, |grad| 0.5000")
  }

  @Test func theLastStepHasNoTimeLeft() {
    #expect(
      view(1000).plainLine
        == "step 1000/1000, loss 0.2500, mean 0.2500, lr 1.00e-04, |grad| 0.5000, 3.00 GiB, 2 it/s")
  }

  @Test func slowStepsAreSecondsPerStep() {
    var view = TrainingView(totalSteps: 100, resumingAfter: 0)
    view.add(record(1, seconds: 4.25, bytes: 500 << 20), elapsed: 40)
    #expect(
      view.plainLine
        == "step 1/100, loss 0.2500, mean 0.2500, lr 1.00e-04, |grad| 0.5000, 500 MiB, 4.25 s/it, 1:06 h left"
    )
  }

  @Test func skippedStepsAreCountedAndLeaveTheMeanAlone() {
    var view = TrainingView(totalSteps: 100, resumingAfter: 0)
    view.add(record(1, loss: 1, bytes: nil), elapsed: 0.5)
    view.add(record(2, loss: .nan, bytes: nil, skipped: "non-finite loss"), elapsed: 1)
    #expect(
      view.plainLine
        == "step 2/100, loss nan, mean 1.0000, skipped 1, lr 1.00e-04, |grad| 0.5000, 2 it/s, 49 s left"
    )
  }

  /// The first five values have equal weight; then the newest fifth counts, and finally the newest
  /// `window`.
  @Test func theMovingMean() throws {
    var mean = MovingMean(window: 4)
    #expect(mean.value == nil)
    for number in [1, 2, .infinity, 4] { mean.add(number) }
    #expect(abs(try #require(mean.value) - 7.0 / 3) < 1e-12)
    for number in [5.0, 11] { mean.add(number) }
    // The window is full from the fourth value on: 3 + (11 - 3) / 4.
    #expect(abs(try #require(mean.value) - 5) < 1e-12)
    // For a loss that falls linearly, the mean lags by at most a fifth of the run.
    var loss = MovingMean()
    for step in 1...60 { loss.add(Double(60 - step)) }
    #expect(try #require(loss.value) < 60 / 5)
    for step in 61...2000 { loss.add(Double(60 - step)) }
    #expect(abs(try #require(loss.value) - (60 - 2000 + 49)) < 0.1)
  }

  @Test(
    arguments: [
      (0, "0.0000"), (0.00012345, "1.234e-04"), (0.001, "0.0010"), (999.99, "999.9900"),
      (12345, "1.234e+04"),
      (-0.5, "-0.5000"), (.nan, "nan"), (.infinity, "inf"), (-.infinity, "-inf"),
    ] as [(Double, String)])
  func losses(value: Double, text: String) { #expect(measured(value) == text) }

  @Test(
    arguments: [
      (0.2, "1 s"), (59.1, "1:00 min"), (3599, "59:59 min"), (7260, "2:01 h"), (1e8, "long"),
      (.nan, "long"),
    ] as [(Double, String)])
  func times(seconds: Double, text: String) { #expect(timeText(seconds) == text) }

  @Test func thePaceOfALog() {
    var pace = LogPace(seconds: 10)
    let due = [(0.0, false), (5, false), (10, false), (19.9, false), (20, false), (20.1, true)].map
    {
      pace.isDue(at: $0.0, isLast: $0.1)
    }
    #expect(due == [true, false, true, false, true, true])
  }
}
