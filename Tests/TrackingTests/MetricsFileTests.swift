import Foundation
import Testing

@testable import Tracking

@Suite struct MetricsFileTests {
  private let folder = TemporaryFolder()

  private var path: String { folder.path + "/metrics.jsonl" }

  private func step(_ number: Int) -> StepRecord {
    StepRecord(
      step: number, epoch: Double(number) / 3, loss: 1 / Double(number),
      sigmaLosses: ["0.25-0.50": 0.1, "0.75-1.00": 0.3], videoLoss: 0.25, audioLoss: 0.5,
      gradientNorm: 2,
      learningRate: 1e-4, learningRates: ["audio": 1e-5], seconds: 0.5, dataSeconds: 0.01,
      forwardSeconds: 0.2, backwardSeconds: 0.25, optimizerSeconds: 0.03, savingSeconds: 0.02,
      betweenSeconds: 0.04, samples: 4, tensorBytes: 1 << 30)
  }

  private func write(_ steps: ClosedRange<Int>, from start: Int = 0) throws {
    let file = try MetricsFile(path: path, resumingAfter: start)
    for number in steps { try file.append(step(number)) }
    try file.close()
  }

  private func lines() throws -> [String] {
    try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map(String.init)
  }

  @Test func writtenRecordsAreReadBack() throws {
    let file = try MetricsFile(path: path, resumingAfter: 0)
    let before = ValidationRecord(step: 0, loss: 0.75, sigmaLosses: ["0.00-0.25": 0.5], seconds: 3)
    try file.append(before)
    try file.append(step(1))
    try file.append(StepRecord(step: 2, loss: 0.1, gradientNorm: 1, learningRate: 0, seconds: 1))
    try file.close()
    let read = try RecordedMetrics(path: path)
    #expect(read.validations == [before])
    #expect(
      read.steps == [
        step(1), StepRecord(step: 2, loss: 0.1, gradientNorm: 1, learningRate: 0, seconds: 1),
      ])
    #expect(read.damagedLines.isEmpty)
  }

  /// Other programs read these keys.
  @Test func theKeysOfALine() throws {
    try write(3...3)
    #expect(
      try lines() == [
        #"{"audio_loss":0.5,"backward_seconds":0.25,"between_seconds":0.04,"data_seconds":0.01,"epoch":1,"#
          + #""forward_seconds":0.2,"gradient_norm":2,"learning_rate":0.0001,"learning_rates":{"audio":1e-05},"loss":0.3333333333333333,"#
          + #""loss_sigma":{"0.25-0.50":0.1,"0.75-1.00":0.3},"optimizer_seconds":0.03,"samples":4,"#
          + #""saving_seconds":0.02,"seconds":0.5,"step":3,"tensor_bytes":1073741824,"video_loss":0.25}"#
      ])
    let file = try MetricsFile(path: path, resumingAfter: 0)
    try file.append(ValidationRecord(step: 5, loss: 0.5, sigmaLosses: ["0.00-0.25": 1], seconds: 2))
    try file.append(
      ValidationRecord(
        step: 6, loss: 0.75, videoLoss: 0.5, audioLoss: 0.25, sigmaLosses: [:], seconds: 2))
    #expect(
      try lines() == [
        #"{"step":5,"validation_loss":0.5,"validation_loss_sigma":{"0.00-0.25":1},"validation_seconds":2}"#,
        #"{"step":6,"validation_audio_loss":0.25,"validation_loss":0.75,"validation_seconds":2,"validation_video_loss":0.5}"#,
      ])
  }

  @Test func nonFiniteValuesAreNull() throws {
    let file = try MetricsFile(path: path, resumingAfter: 0)
    try file.append(
      StepRecord(
        step: 1, loss: .nan, sigmaLosses: ["0.00-0.25": .infinity], gradientNorm: -.infinity,
        learningRate: 1,
        seconds: 1, skipped: "non-finite loss"))
    #expect(
      try lines() == [
        #"{"gradient_norm":null,"learning_rate":1,"loss":null,"loss_sigma":{"0.00-0.25":null},"#
          + #""seconds":1,"skipped":"non-finite loss","step":1}"#
      ])
    let read = try #require(try RecordedMetrics(path: path).steps.first)
    #expect(
      read.loss.isNaN && read.gradientNorm.isNaN && read.sigmaLosses["0.00-0.25"]?.isNaN == true)
    #expect(read.skipped == "non-finite loss")
    #expect(
      read.scalars.map(\.name) == [
        "train/learning_rate", "train/step_time", "train/global_step", "train/skipped",
      ])
  }

  @Test func goingOnDropsLaterSteps() throws {
    try write(1...9)
    try write(6...7, from: 5)
    #expect(try RecordedMetrics(path: path).steps.map(\.step) == [1, 2, 3, 4, 5, 6, 7])
  }

  @Test func aValidationOfTheStepStays() throws {
    let file = try MetricsFile(path: path, resumingAfter: 0)
    try file.append(ValidationRecord(step: 0, loss: 3, seconds: 1))
    try file.append(step(1))
    try file.append(ValidationRecord(step: 1, loss: 2, seconds: 1))
    try file.append(step(2))
    try file.append(ValidationRecord(step: 2, loss: 1, seconds: 1))
    try file.close()
    let again = try MetricsFile(path: path, resumingAfter: 1)
    #expect(try RecordedMetrics(path: path).validations.map(\.loss) == [3, 2])
    // a repeated step is counted once
    try again.append(ValidationRecord(step: 1, loss: 2.5, seconds: 1))
    #expect(try RecordedMetrics(path: path).validations.map(\.loss) == [3, 2.5])
  }

  @Test func startingOverDropsEverything() throws {
    try write(1...3)
    try write(1...1, from: 0)
    #expect(try RecordedMetrics(path: path).steps.map(\.step) == [1])
  }

  /// A kill may truncate a line at any position.
  @Test func aLineThatWasCutOffIsDropped() throws {
    try write(1...3)
    let whole = try Data(contentsOf: URL(fileURLWithPath: path))
    let lineLength = whole.count / 3
    for cut in stride(from: 1, through: lineLength + 5, by: 7) {
      try whole.dropLast(cut).write(to: URL(fileURLWithPath: path))
      let remaining = cut <= lineLength ? [1, 2] : [1]
      #expect(try RecordedMetrics(path: path).steps.map(\.step) == remaining)
      try write(4...4, from: 3)
      #expect(try RecordedMetrics(path: path).steps.map(\.step) == remaining + [4])
      #expect(try lines().count == remaining.count + 1)
    }
  }

  /// The files after a power failure.
  @Test func damageAtTheEndGoesAndInTheMiddleIsReported() throws {
    try write(1...3)
    var text = try lines()
    text[1] = "{\"step\": 2"
    let damaged = text.joined(separator: "\n") + "\n" + String(repeating: "\0", count: 100) + "\n"
    try damaged.write(toFile: path, atomically: true, encoding: .utf8)
    #expect(try RecordedMetrics(path: path).damagedLines == [2, 4])
    try write(4...4, from: 3)
    let read = try RecordedMetrics(path: path)
    #expect(read.damagedLines == [2])
    #expect(read.steps.map(\.step) == [1, 3, 4])
  }

  /// Lines of earlier versions have fewer keys.
  @Test func linesOfEarlierVersionsAreRead() throws {
    let line =
      #"{"gradient_norm":0.5,"learning_rate":0.001,"loss":1.5,"seconds":0.25,"step":7,"tensor_bytes":12}"#
      + "\n"
    try line.write(toFile: path, atomically: true, encoding: .utf8)
    #expect(
      try RecordedMetrics(path: path).steps == [
        StepRecord(
          step: 7, loss: 1.5, gradientNorm: 0.5, learningRate: 0.001, seconds: 0.25, tensorBytes: 12
        )
      ])
  }

  @Test func aPathThatCannotBeIsAnErrorThatNamesIt() throws {
    let path = folder.path + "/absent/metrics.jsonl"
    #expect { try MetricsFile(path: path, resumingAfter: 0) } throws: { "\($0)".contains(path) }
    #expect { try RecordedMetrics(path: path) } throws: { "\($0)".contains(path) }
  }

  @Test func theNamesOfScalarsAreTheOfficialTrainers() {
    #expect(
      step(3).scalars.map(\.name) == [
        "train/loss", "train/learning_rate", "train/step_time", "train/global_step",
        "train/loss_sigma_0.25-0.50", "train/loss_sigma_0.75-1.00", "train/gradient_norm",
        "train/video_loss",
        "train/audio_loss", "train/epoch", "train/learning_rate_audio", "train/data_time",
        "train/forward_time",
        "train/backward_time", "train/optimizer_time", "train/memory_gb",
      ])
    #expect(
      RunStatistics(totalSeconds: 120, steps: 60, samples: 240, peakBytes: 3 << 30).scalars.map(
        \.value)
        == [2, 0.5, 2, 3])
    #expect(
      ValidationRecord(step: 1, loss: 2, sigmaLosses: ["0.00-0.25": 1], seconds: 1).scalars.map(
        \.name)
        == ["validation/loss", "validation/loss_sigma_0.00-0.25"])
  }
}
