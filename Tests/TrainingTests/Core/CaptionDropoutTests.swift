import Datasets
import Foundation
import LTX
import Support
import TestSupport
import Testing
import Torch

@testable import Training

/// Training on the empty prompt for some samples.
@Suite struct CaptionDropoutTests {
  private let synthetic: SyntheticRun

  init() throws { synthetic = try SyntheticRun((0..<4).map { _ in .init() }) }

  private func configuration(_ probability: Double, steps: Int = 3) -> TrainingConfiguration {
    var c = synthetic.configuration(Strategies.flexible([], []), batch: 2, steps: steps)
    c.data.captionDropout = probability
    return c
  }

  private func losses(_ c: TrainingConfiguration) throws -> [Double] {
    let trainer = try Trainer(c)
    var losses: [Double] = []
    var events = TrainingEvents()
    events.stepped = { losses.append($0.loss) }
    _ = try trainer.run(events)
    return losses
  }

  @Test func withoutTheEmptyPromptsFeaturesTheKeyIsNamed() throws {
    let error = #expect(throws: ConfigurationProblems.self) { try Trainer(configuration(0.1)) }
    let text = error?.description ?? ""
    #expect(text.contains("data.caption_dropout") && text.contains("ltx preprocess"), "\(text)")
    _ = try Trainer(configuration(0))
  }

  @Test func aProbabilityOfOneTrainsOnTheEmptyPrompt() throws {
    let plain = try losses(configuration(0))
    try synthetic.writeEmptyPrompt()
    #expect(try losses(configuration(0)) == plain)
    let dropped = try losses(configuration(1))
    #expect(dropped != plain)
    try synthetic.replaceCaptionsByEmptyPrompt()
    #expect(try losses(configuration(0)) == dropped)
  }

  /// About half of the samples are dropped, others in each epoch, and the same again from any
  /// position.
  @Test func aProbabilityOfAHalfDropsHalf() throws {
    let dropout = CaptionDropout(probability: 0.5, seed: 3, file: "")
    let dropped = (0..<4000).map(dropout.drops)
    // Four standard deviations of a binomial distribution.
    #expect(abs(dropped.count { $0 } - 2000) < 4 * 32)
    #expect((0..<4000).reversed().map(dropout.drops) == dropped.reversed())
    let other = CaptionDropout(probability: 0.5, seed: 4, file: "")
    #expect((0..<4000).map(other.drops) != dropped)
    // A larger probability drops the same samples and others.
    let more = CaptionDropout(probability: 0.7, seed: 3, file: "")
    #expect(zip(dropped, (0..<4000).map(more.drops)).allSatisfy { !$0 || $1 })
    let none = CaptionDropout(probability: 0, seed: 3, file: "")
    #expect(!(0..<4000).contains { none.drops(position: $0) })
  }

  @Test func batchesReadTheFileOfTheirChoice() throws {
    try synthetic.writeEmptyPrompt()
    let trainer = try Trainer(configuration(0.5))
    let dropout = try #require(trainer.captionDropout)
    var order = trainer.order
    for number in 0..<8 {
      let place = try order.batch(number)
      let batch = try trainer.dataset.load(place, number: number, dropout)
      for (offset, sample) in place.samples.enumerated() {
        let isDropped = dropout.drops(position: place.position + offset)
        let own = trainer.dataset.entries[sample].files["conditions"]
        #expect(batch.textFiles[offset] == (isDropped ? dropout.file : own))
        let stored = try SampleFile(path: batch.textFiles[offset]).tensor("video_prompt_embeds")
        #expect(try Tensor.isEqual(batch.text.byModality.video.select(0, offset), stored))
      }
    }
  }

  /// A resumed run drops the same captions as an uninterrupted one.
  @Test func resumingDropsTheSameCaptions() throws {
    try synthetic.writeEmptyPrompt()
    var c = configuration(0.5, steps: 6)
    c.checkpoints.saveTrainingState = .full
    let whole = try losses(c)
    c.outputDir += "-again"
    var resumed: [Double] = []
    for _ in 0..<2 {
      let trainer = try Trainer(c)
      _ = try trainer.prepareFolder(.resume)
      var events = TrainingEvents()
      events.stepped = { resumed.append($0.loss) }
      let first = trainer.completedSteps
      events.shouldStop = { trainer.completedSteps == first + 3 }
      _ = try trainer.run(events)
    }
    #expect(resumed == whole)
    // A run with another probability is another run.
    c.data.captionDropout = 0.25
    let error = #expect(throws: Support.Issue.self) { try Trainer(c).prepareFolder(.resume) }
    #expect(error?.problem.contains("data.caption_dropout") == true)
  }
}
