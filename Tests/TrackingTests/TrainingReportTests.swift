import Foundation
import FoundationXML
import Testing

@testable import Tracking

@Suite struct TrainingReportTests {
  private let folder = TemporaryFolder()

  private func record(_ step: Int) -> StepRecord {
    StepRecord(
      step: step, loss: 1 / (1 + Double(step) / 500) + Double(step % 17) / 50,
      sigmaLosses: [SigmaBuckets.quarters.labels[step % 4]: 0.5 + Double(step % 4) / 10],
      gradientNorm: Double(step % 13), learningRate: 1e-4, seconds: 0.5, dataSeconds: 0.01,
      forwardSeconds: 0.2,
      backwardSeconds: 0.25, optimizerSeconds: 0.03, samples: 1, tensorBytes: 3 << 30)
  }

  private func report(_ steps: Int, title: String = "my run", configuration: String = "seed: 42")
    -> TrainingReport
  {
    var report = TrainingReport(title: title, totalSteps: steps, configuration: configuration)
    for step in 0..<steps { report.add(record(step + 1)) }
    return report
  }

  @Test func aRunOf100000StepsIsAPageOfNormalSize() throws {
    let small = report(2000).html(in: folder.path).utf8.count
    let large = report(100_000).html(in: folder.path).utf8.count
    #expect(large < 400_000 && large < 2 * small)
  }

  @Test func thePageNeedsNothingFromElsewhere() throws {
    var report = report(20)
    report.add(ValidationRecord(step: 20, loss: 0.5, sigmaLosses: ["0.00-0.25": 0.25], seconds: 2))
    report.facts = [("device", "cpu")]
    report.messages = ["step 3 was skipped"]
    let page = report.html(in: folder.path)
    #expect(!page.contains("https:") && !page.contains("src=\"http"))
    #expect(page.contains("default-src 'none'"))
    for part in [
      "Loss", "Loss by noise level", "sigma 0.00-0.25", "Validation loss by noise level",
      "Gradient norm",
      "Learning rate", "Memory", "seed: 42", "<dt>device</dt><dd>cpu</dd>",
      "<li>step 3 was skipped</li>",
      "optimizer", "running, 20 of 20 steps",
    ] {
      #expect(page.contains(part), "\(part)")
    }
    #expect(!page.contains("Loss by modality"))
  }

  @Test func drawingsAreWellFormed() throws {
    var report = report(300)
    report.add(ValidationRecord(step: 300, loss: 0.5, sigmaLosses: ["<&\">": 0.25], seconds: 2))
    let page = report.html(in: folder.path)
    var count = 0
    for part in page.components(separatedBy: "<svg ").dropFirst() {
      let end = try #require(part.range(of: "</svg>")?.upperBound)
      #expect(XMLParser(data: Data(("<svg " + part[..<end]).utf8)).parse())
      count += 1
    }
    #expect(count == 7)
  }

  @Test(
    arguments: [
      (nil, "running, 5 of 5"), (.success, "finished, 5 of 5"), (.failed, "failed after 5 of 5"),
      (.interrupted, "interrupted after 5 of 5"),
    ] as [(RunOutcome?, String)])
  func thePageSaysHowTheRunStands(outcome: RunOutcome?, words: String) {
    var report = report(5)
    report.outcome = outcome
    #expect(report.html(in: folder.path).contains(words))
  }

  @Test func textsCannotBreakThePage() throws {
    let bad = "<script>alert(1)</script>\"'&\u{0}"
    var report = report(2, title: bad, configuration: bad)
    report.facts = [(bad, bad)]
    report.messages = [bad]
    let path = folder.path + "/a.png"
    try SampleFiles.image(path, width: 16, height: 16)
    report.add([try ValidationMedia(name: bad, path: path, caption: bad)], step: 1)
    report.add(ValidationRecord(step: 1, loss: 1, sigmaLosses: [bad: 1], seconds: 1))
    let page = report.html(in: folder.path)
    #expect(!page.contains("<script>alert") && !page.contains("\u{0}"))
    #expect(page.components(separatedBy: "<script>").count == 2)
    #expect(
      page.components(separatedBy: "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;").count
        > 6)
  }

  @Test func aRunWithoutStepsIsAPage() {
    let page = TrainingReport(title: "x", totalSteps: 5, configuration: "").html(in: folder.path)
    #expect(
      page.contains("no step is done yet") && !page.contains("<svg")
        && !page.contains("Configuration"))
  }

  @Test func metricsOfAnEarlierStartAreThere() {
    let earlier = RecordedMetrics(
      steps: (1...3).map(record), validations: [ValidationRecord(step: 3, loss: 1, seconds: 1)])
    var report = TrainingReport(title: "x", totalSteps: 4, configuration: "", metrics: earlier)
    report.add(record(4))
    #expect(report.curves.loss.steps == [1, 2, 3, 4])
    #expect(report.curves.validationLoss.steps == [3])
  }

  // MARK: Samples

  @Test func smallFilesArePartOfThePageAndLargeOnesAreLinked() throws {
    let small = folder.path + "/clip.mp4"
    try SampleFiles.video(small, width: 64, height: 48, frames: 5)
    let samples = folder.path + "/samples/step 1: a#b"
    try FileManager.default.createDirectory(atPath: samples, withIntermediateDirectories: true)
    let large = samples + "/sound.wav"
    try SampleFiles.audio(large, seconds: 70)  // 2.2 MB
    let gone = folder.path + "/gone.png"
    try SampleFiles.image(gone, width: 20, height: 10)
    var report = report(2)
    report.add(
      try [
        ValidationMedia(name: "one", path: small, caption: "a cat"),
        ValidationMedia(name: "two", path: large, caption: "rain"),
        ValidationMedia(name: "three", path: gone, caption: ""),
      ], step: 1)
    try FileManager.default.removeItem(atPath: gone)
    let page = report.html(in: folder.path)
    let bytes = try Data(contentsOf: URL(fileURLWithPath: small)).base64EncodedString()
    #expect(page.contains("src=\"data:video/mp4;base64,\(bytes)\""))
    #expect(page.contains("poster=\"data:image/jpeg;base64,"))
    #expect(page.contains("src=\"./samples/step%201%3A%20a%23b/sound.wav\""))
    #expect(page.contains("the file is gone"))
    #expect(report.html(in: "/elsewhere").contains("src=\"file://"))
  }

  @Test func newerSamplesComeFirstAndReplaceThoseOfTheirStep() throws {
    var report = report(2)
    for (step, width) in [(1, 16), (2, 18), (2, 20)] {
      let path = "\(folder.path)/\(width).png"
      try SampleFiles.image(path, width: width, height: 16)
      report.add([try ValidationMedia(name: "one", path: path, caption: "")], step: step)
    }
    let page = report.html(in: folder.path)
    let captions = page.components(separatedBy: "<figcaption>step ").dropFirst().map {
      $0.prefix(1)
    }
    #expect(captions == ["2", "1"])
    let newer = try Data(contentsOf: URL(fileURLWithPath: folder.path + "/20.png"))
      .base64EncodedString()
    #expect(page.contains(newer))
  }

  /// The newest files that fit are embedded in the page.
  @Test func thePageStaysSmall() throws {
    let path = folder.path + "/sound.wav"
    try SampleFiles.audio(path, seconds: 60)  // 1.9 MB
    var report = report(2)
    for step in 1...20 {
      report.add([try ValidationMedia(name: "s", path: path, caption: "")], step: step)
    }
    let page = report.html(in: folder.path)
    let embedded = page.components(separatedBy: "src=\"data:audio/wav").count - 1
    let size = try Data(contentsOf: URL(fileURLWithPath: path)).count
    #expect(embedded == ReportSamples.pageLimit / size && embedded < 20)
    #expect(page.components(separatedBy: "src=\"./sound.wav\"").count - 1 == 20 - embedded)
  }

  @Test func writingIsAtomicAndSaysWhatFailed() throws {
    let path = folder.path + "/report.html"
    try "old".write(toFile: path, atomically: true, encoding: .utf8)
    try report(3).write(to: path)
    #expect(try String(contentsOfFile: path, encoding: .utf8).hasPrefix("<!doctype html>"))
    let absent = folder.path + "/absent/report.html"
    #expect { try report(3).write(to: absent) } throws: { "\($0)".contains(absent) }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["report.html"])
  }
}
