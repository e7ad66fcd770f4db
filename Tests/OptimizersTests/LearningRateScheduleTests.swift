import NN
import Optimizers
import Support
import Testing
import Torch

/// Compares with PyTorch's schedulers over complete runs, at three base rates.
@Suite struct LearningRateScheduleTests {
  private struct Case: Decodable {
    let kind: String
    let steps: Int
    let warmup: Int
    let params: [String: JSON]
  }

  /// PyTorch computes rates step by step and accumulates rounding errors. The last two cases are
  /// the rates of accelerate's optimizer if the scheduler is called for every batch, with one and
  /// with three accumulated batches.
  @Test func ratesArePyTorchsWithTheOfficialTrainersDefaults() throws {
    let fixture = try Fixture("schedules")
    let cases: [Case] = try fixture.metadata("cases")
    let bases: [Double] = try fixture.metadata("bases")
    #expect(cases.count > 80)
    #expect(Set(cases.map(\.kind)) == Set(ScheduleKind.allCases.map(\.rawValue)))
    for (index, test) in cases.enumerated() {
      let schedule = try LearningRateSchedule(
        #require(ScheduleKind(rawValue: test.kind)), steps: test.steps, warmupSteps: test.warmup,
        params: test.params)
      let wanted: [Double] = try fixture.tensor("\(index)").array()
      #expect(wanted.count == test.steps * bases.count)
      for step in 0..<test.steps {
        for (group, base) in bases.enumerated() {
          let rate = schedule.learningRate(base: base, at: step)
          let expected = wanted[step * bases.count + group]
          #expect(
            abs(rate - expected) <= 1e-6 * base, "\(test) at \(step): \(rate), not \(expected)")
        }
      }
    }
  }

  @Test func warmUpBeginsAboveZeroAndEndsWhereTheCurveBegins() throws {
    let schedule = try LearningRateSchedule(.linear, steps: 10, warmupSteps: 4)
    let rates = (0..<10).map { schedule.learningRate(base: 1, at: $0) }
    let expected = [0.2, 0.4, 0.6, 0.8, 1, 0.85, 0.7, 0.55, 0.4, 0.25]
    for (rate, wanted) in zip(rates, expected) { #expect(abs(rate - wanted) < 1e-12) }
  }

  @Test(arguments: ScheduleKind.allCases)
  func aRateOfZeroStaysZero(_ kind: ScheduleKind) throws {
    let schedule = try LearningRateSchedule(kind, steps: 20, warmupSteps: 3)
    for step in 0..<20 { #expect(schedule.learningRate(base: 0, at: step) == 0) }
  }

  @Test func stepsAfterTheRunsLastStayWhereItEnded() throws {
    for kind in [ScheduleKind.linear, .polynomial] {
      let schedule = try LearningRateSchedule(kind, steps: 8)
      #expect(schedule.learningRate(base: 1, at: 8) == schedule.learningRate(base: 1, at: 1000))
    }
    // Periods that grow beyond all integers.
    let schedule = LearningRateSchedule(
      .cosineWithRestarts(first: 1 << 40, factor: 1 << 40, minimum: 0), steps: .max)
    #expect(schedule.learningRate(base: 1, at: .max).isFinite)
  }

  @Test(arguments: [
    (
      ScheduleKind.constant, "power", JSON.number(1),
      "is not an option of the scheduler constant; it takes none"
    ),
    (
      .linear, "end_facter", .number(1),
      "is not an option of the scheduler linear; it takes start_factor, end_factor"
    ),
    (.linear, "start_factor", .number(0), "must be a number above 0 and up to 1"),
    (.linear, "end_factor", .number(1.5), "must be a number from 0 to 1"),
    (.linear, "end_factor", .string("0.1"), "must be a number from 0 to 1"),
    (.cosine, "eta_min", .number(-1), "must be a number of at least 0"),
    (.cosineWithRestarts, "T_0", .number(0), "must be an integer of at least 1"),
    (.cosineWithRestarts, "T_0", .number(2.5), "must be an integer of at least 1"),
    (.cosineWithRestarts, "T_mult", .bool(true), "must be an integer of at least 1"),
    (.polynomial, "power", JSON(.nan), "must be a number of at least 0"),
    (.step, "step_size", .number(1e30), "must be an integer of at least 1"),
    (.step, "gamma", .null, "must be a number of at least 0"),
  ])
  func aBadOptionIsNamedWithWhatIsAllowed(
    _ kind: ScheduleKind, _ key: String, _ value: JSON, _ problem: String
  ) {
    let error = #expect(throws: Issues.self) {
      try LearningRateSchedule(kind, steps: 100, params: [key: value])
    }
    #expect(error?.all == [Support.Issue([.name(key)], problem)])
  }

  @Test func defaultsThatAShortRunMakesImpossibleAreReported() {
    var error = #expect(throws: Issues.self) {
      try LearningRateSchedule(.cosineWithRestarts, steps: 3)
    }
    #expect(error?.all.map(\.subject) == [["T_0"]])
    error = #expect(throws: Issues.self) { try LearningRateSchedule(.step, steps: 1) }
    #expect(error?.all.map(\.subject) == [["step_size"]])
    for warmup in [-1, 5, 6] {
      error = #expect(throws: Issues.self) {
        try LearningRateSchedule(.linear, steps: 5, warmupSteps: warmup)
      }
      #expect(error?.all.map(\.subject) == [["warmup_steps"]])
    }
  }
}
