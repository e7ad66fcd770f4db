import Foundation
import TestSupport
import Testing
import Torch
import Tracking

@testable import Training

/// The validation loss: when it is measured, its parts, and the checkpoint with the lowest one.
@Suite struct ValidationLossTests {
  private let synthetic: SyntheticRun

  init() throws { synthetic = try SyntheticRun((0..<4).map { _ in .init() }, seed: 5) }

  private func configuration(
    _ strategy: TrainingStrategy = Strategies.flexible([], []), steps: Int = 4, held: Int = 2,
    interval: Int? = 2
  ) -> TrainingConfiguration {
    var c = synthetic.configuration(strategy, steps: steps)
    c.validation.interval = nil
    c.validation.heldOut.count = held
    c.validation.heldOut.interval = interval
    c.report.enabled = false
    return c
  }

  private func validations(
    _ c: TrainingConfiguration, group: ProcessGroup = .single
  ) throws -> [ValidationRecord] {
    let trainer = try Trainer(c, group: group)
    _ = try trainer.prepareFolder(.resume)
    var records: [ValidationRecord] = []
    var events = TrainingEvents()
    events.validated = { records.append($0) }
    _ = try trainer.run(events)
    return records
  }

  @Test func videoAndAudioAreReportedApart() throws {
    let c = configuration()
    let records = try validations(c)
    #expect(records.map(\.step) == [0, 2, 4])
    for record in records {
      let (video, audio) = (try #require(record.videoLoss), try #require(record.audioLoss))
      #expect(video > 0 && audio > 0 && video != audio)
      #expect(abs(video + audio - record.loss) < 1e-5 * record.loss)
      // The parts and the total are means over the noise levels.
      let levels = record.sigmaLosses.values
      #expect(abs(levels.reduce(0, +) / Double(levels.count) - record.loss) < 1e-9)
      let scalars = Dictionary(uniqueKeysWithValues: record.scalars.map { ($0.name, $0.value) })
      #expect(
        scalars["validation/video_loss"] == video && scalars["validation/audio_loss"] == audio)
    }
    // Untrained adapters have no effect, so the first loss is the base model's.
    #expect(records[0].loss != records[2].loss)
    let stored = try RecordedMetrics(path: c.outputDir + "/metrics.jsonl").validations
    #expect(stored.map(\.videoLoss) == records.map(\.videoLoss))
    #expect(stored.map(\.audioLoss) == records.map(\.audioLoss))
    #expect(try RecordedMetrics.validations(path: c.outputDir + "/metrics.jsonl") == stored)
    let text = try String(contentsOfFile: c.outputDir + "/metrics.jsonl", encoding: .utf8)
    #expect(
      text.contains("\"validation_video_loss\":") && text.contains("\"validation_audio_loss\":"))
  }

  /// The parts equal those of a run with the same noise for both modalities, whatever the other
  /// modality's target is.
  @Test func aModalityThatIsNotGeneratedHasNoLoss() throws {
    let video = try validations(configuration(Strategies.flexible([])))
    #expect(video.allSatisfy { $0.audioLoss == nil && $0.videoLoss.map { _ in true } == true })
    for record in video { #expect(abs((record.videoLoss ?? 0) - record.loss) < 1e-9 * record.loss) }
    let audio = try validations(configuration(Strategies.flexible([], [], frozenVideo: true)))
    #expect(audio.allSatisfy { $0.videoLoss == nil && $0.audioLoss != nil })
  }

  /// A rank without samples reports the same as the others.
  @Test func ranksAgree() throws {
    var c = configuration(held: 1)
    let alone = try validations(c)
    c.outputDir += "-ranks"
    let shared = c
    let ranks = try asRanks(2) { try validations(shared, group: $0) }.map { try $0.get() }
    #expect(ranks[0].map(\.loss) == ranks[1].map(\.loss))
    #expect(ranks[0].map(\.audioLoss) == ranks[1].map(\.audioLoss))
    #expect(ranks[0][0].loss == alone[0].loss && ranks[0][0].videoLoss == alone[0].videoLoss)
  }

  /// Without an interval the loss is still measured before and after.
  @Test func beforeAndAfter() throws {
    #expect(try validations(configuration(steps: 3, interval: nil)).map(\.step) == [0, 3])
    #expect(try validations(configuration(steps: 3)).map(\.step) == [0, 2, 3])
    #expect(try validations(configuration(held: 0)).isEmpty)
  }

  @Test func aLineOfALog() {
    #expect(
      ValidationRecord(step: 20, loss: 1.8042, videoLoss: 0.741, audioLoss: 1.0632, seconds: 1).line
        == "step 20: validation loss 1.8042 (video 0.7410, audio 1.0632)")
    #expect(
      ValidationRecord(step: 0, loss: 0.5, videoLoss: 0.5, seconds: 1).line
        == "step 0: validation loss 0.5000")
  }

  // MARK: keep_best

  private func files(_ c: TrainingConfiguration, _ folder: String = "checkpoints") throws
    -> [String]
  {
    try FileManager.default.contentsOfDirectory(atPath: "\(c.outputDir)/\(folder)").sorted()
      .filter { $0.hasPrefix("lora_weights") }
      .map { String($0.dropFirst("lora_weights_step_".count).dropLast(".safetensors".count)) }
  }

  /// At a rate so high that the loss rises and falls, the averaged weights have the lowest loss
  /// after step 4, which is between two regular checkpoints.
  private func unsteady(steps: Int = 6) -> TrainingConfiguration {
    var c = configuration(steps: steps, interval: 1)
    c.optimization.learningRate = 0.03
    c.optimization.emaDecay = 0.5
    c.checkpoints.interval = 3
    c.checkpoints.keepBest = true
    return c
  }

  @Test func theBestCheckpointStaysBesideTheLast() throws {
    let c = unsteady()
    let records = try validations(c)
    let least = try #require(records.dropFirst().min { $0.loss < $1.loss })
    #expect(least.step == 4, "\(records.map(\.loss))")
    let best = try BestCheckpoint(path: c.outputDir + "/checkpoints/best.json")
    #expect((best.step, best.loss) == (least.step, least.loss))
    #expect((best.videoLoss, best.audioLoss) == (least.videoLoss, least.audioLoss))
    #expect(best.weights == String(format: "lora_weights_step_%05d.safetensors", least.step))
    let kept = [String(format: "%05d", least.step), "00006"]
    #expect(try files(c) == kept)
    #expect(try files(c, "ema") == kept)
    let averaged = try #require(best.averagedWeights)
    #expect(FileManager.default.fileExists(atPath: "\(c.outputDir)/checkpoints/\(averaged)"))
  }

  /// A resumed run ends with the best checkpoint of an uninterrupted one.
  @Test func theBestCheckpointSurvivesAStop() throws {
    let whole = unsteady()
    _ = try validations(whole)
    var broken = whole
    broken.outputDir += "-broken"
    let first = try Trainer(broken)
    _ = try first.prepareFolder(.resume)
    var events = TrainingEvents()
    var steps = 0
    events.stepped = { steps = $0.step }
    events.shouldStop = { steps == 3 }
    _ = try first.run(events)
    #expect(first.completedSteps == 3)
    let records = try validations(broken)
    #expect(records.map(\.step) == [4, 5, 6])
    let path = "/checkpoints/best.json"
    #expect(
      try BestCheckpoint(path: broken.outputDir + path)
        == BestCheckpoint(path: whole.outputDir + path))
    #expect(try files(broken) == files(whole))
    // The best checkpoint of another run is not used.
    let again = try Trainer(broken)
    _ = try again.prepareFolder(.overwrite)
    #expect(!FileManager.default.fileExists(atPath: broken.outputDir + path))
  }

  @Test func keepingTheBestNeedsALoss() throws {
    let problems = try ConfigurationText.problems(
      ConfigurationText.minimal + "\ncheckpoints: {keep_best: true}\n")
    #expect(problems.map(\.key) == ["checkpoints"])
    #expect(
      problems[0].message.contains("keep_best") && problems[0].message.contains("held_out.count"))
    let c = try ConfigurationText.read(
      ConfigurationText.minimal
        + "\ncheckpoints: {keep_best: true}\nvalidation: {held_out: {count: 2}}\n")
    #expect(try c.checkpoints.keepBest && c.resolvedYAML.contains("keep_best: true"))
  }
}
