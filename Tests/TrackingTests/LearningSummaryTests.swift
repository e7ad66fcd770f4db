import Testing

@testable import Tracking

/// The report at the end of a run.
@Suite struct LearningSummaryTests {
  private func record(_ step: Int, _ video: Double?, _ audio: Double?) -> ValidationRecord {
    ValidationRecord(
      step: step, loss: (video ?? 0) + (audio ?? 0), videoLoss: video, audioLoss: audio, seconds: 1)
  }

  private func summary(
    _ groups: [LearningSummary.Group], _ before: ValidationRecord? = nil,
    _ after: ValidationRecord? = nil,
    untrained: [String] = []
  ) -> LearningSummary {
    let total = LearningSummary.Group(
      name: "all", modules: groups.reduce(0) { $0 + $1.modules },
      unmoved: groups.reduce(0) { $0 + $1.unmoved },
      nonFinite: groups.reduce(0) { $0 + $1.nonFinite })
    return LearningSummary(
      subject: .adapters, total: total, groups: groups, untrained: untrained, before: before,
      after: after)
  }

  private let video = LearningSummary.Group(name: "video", modules: 8, change: 0.013)

  @Test func aModalityThatBarelyMoved() {
    let audio = LearningSummary.Group(
      name: "audio", modules: 8, change: 0.0002, isBarelyMoved: true)
    let result = summary([video, audio], record(0, 0.8, 1.21), record(40, 0.5, 1.2))
    #expect(
      result.sentence
        == "video adapters moved: 1.3 % of the base weights; video loss fell from 0.8000 to 0.5000; "
        + "audio adapters barely moved: 0.02 % of the base weights; audio loss fell from 1.2100 to 1.2000"
    )
    #expect(result.isSuspicious)
    #expect(result.scalars.map(\.name) == ["stats/change_video", "stats/change_audio"])
  }

  @Test func aModalityThatWasNotTrained() {
    let result = summary([video], record(0, 0.8, nil), record(40, 0.9, nil), untrained: ["audio"])
    #expect(
      result.sentence
        == "video adapters moved: 1.3 % of the base weights; video loss rose from 0.8000 to 0.9000; audio was not trained"
    )
    #expect(result.isSuspicious)
    #expect(!summary([video], record(0, 0.8, nil), record(40, 0.7, nil)).isSuspicious)
  }

  @Test func unmovedAndNonFiniteModulesAreReported() {
    var still = video
    (still.unmoved, still.change) = (8, 0)
    #expect(
      summary([still]).sentence == "none of the 8 adapters moved; no validation loss was measured")
    var part = video
    part.unmoved = 3
    #expect(
      summary([part]).sentence.hasPrefix(
        "video adapters moved: 1.3 % of the base weights (3 of 8 did not move);"))
    var broken = video
    broken.nonFinite = 2
    let result = summary([broken], record(0, 0.8, nil), record(4, .nan, nil))
    #expect(
      result.sentence
        == "2 of 8 adapters are not finite, so the result can't be used; video adapters moved: 1.3 % of the base weights; "
        + "video loss is not finite after training")
    #expect(result.isSuspicious && result.lines[1].contains("2 not finite"))
    var far = video
    far.change = 1e58
    #expect(
      summary([far]).sentence.hasPrefix(
        "video adapters moved too far: 1.0e+60 % of the base weights"))
    #expect(summary([far]).isSuspicious)
  }

  /// Blocks are combined into up to four ranges, whose norms add up like vectors.
  @Test func theChangeByDepth() {
    var result = summary([video])
    result.blocks = (0..<8).map {
      .init(group: "video", index: $0, norm: $0 < 2 ? 3 : 4, baseNorm: 100)
    }
    #expect(
      result.depth(of: "video").map(\.name) == [
        "blocks 0-1", "blocks 2-3", "blocks 4-5", "blocks 6-7",
      ])
    #expect(result.depth(of: "video").map { ($0.change * 1000).rounded() } == [30, 40, 40, 40])
    #expect(
      result.lines.contains(
        "    by depth: blocks 0-1: 3 %, blocks 2-3: 4 %, blocks 4-5: 4 %, blocks 6-7: 4 %"))
    #expect(result.depth(of: "audio").isEmpty)
  }

  @Test(
    arguments: [
      (0, "0 %"), (0.0002, "0.02 %"), (0.121, "12 %"), (5.9e-9, "5.9e-07 %"), (1, "100 %"),
    ]
      as [(Double, String)])
  func shares(share: Double, text: String) { #expect(percentText(share) == text) }

  @Test func thePageAnswers() {
    var report = TrainingReport(title: "x", totalSteps: 4, configuration: "")
    let audio = LearningSummary.Group(name: "audio<b>", modules: 8, unmoved: 1, change: 0.02)
    var learned = summary([video, audio], record(0, 0.8, 1.21), record(40, 0.5, 1.2))
    learned.blocks = (0..<4).map { .init(group: "video", index: $0, norm: 3, baseNorm: 100) }
    learned.unmovedModules = ["a.<b>"]
    report.learning = learned
    for (step, v, a) in [(0, 0.8, 1.21), (40, 0.5, 1.2)] { report.add(record(step, v, a)) }
    let page = report.html(in: "/")
    for part in [
      "Did it learn?", "Video adapters moved: 1.3 % of the base weights", "Change by depth",
      "data-axis=\"block\"",
      "Validation loss by modality", "data-axis=\"step\"", ">step</text>", "audio&lt;b&gt;",
      "a.&lt;b&gt;",
      "<dd>1.7000 (video 0.5000, audio 1.2000)</dd>", "-37.5 %", "-0.8 %",
    ] {
      #expect(page.contains(part), "\(part)")
    }
  }

  @Test func memoryHasOneUnit() {
    #expect(MemoryUnit(fitting: 3 << 30).text(100 << 20) == "0.10 GiB")
    #expect(MemoryUnit(fitting: 100 << 20).text(84 << 20) == "84.0 MiB")
    var report = TrainingReport(title: "x", totalSteps: 4, configuration: "")
    report.add(
      StepRecord(
        step: 1, loss: 1, gradientNorm: 1, learningRate: 1, seconds: 1, tensorBytes: 84 << 20))
    let page = report.html(in: "/")
    #expect(page.contains("84.0 MiB, at most 84.0 MiB") && page.contains("after a step, MiB"))
    #expect(!page.contains("GiB"))
    report.memoryUnit = .gibibytes
    #expect(report.html(in: "/").contains("0.08 GiB, at most 0.08 GiB"))
  }
}
