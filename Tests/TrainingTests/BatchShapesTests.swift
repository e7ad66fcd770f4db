import LTX
import TestSupport
import Testing
import Torch

@testable import Training

/// The samples that share a batch, and the parts of them that are used.
@Suite struct BatchShapesTests {
  private func trainer(
    _ synthetic: SyntheticRun, batch: Int,
    _ strategy: TrainingStrategy = Strategies.flexible([], [])
  ) throws -> Trainer {
    try Trainer(synthetic.configuration(strategy, batch: batch, steps: 4))
  }

  @Test func frameRatesShareABatchAndEachSampleKeepsItsOwn() throws {
    let rates = [29.9, 29.92, 29.95, 29.97, 30, 30.01, 24]
    let synthetic = try SyntheticRun(rates.map { .init(fps: $0) })
    let trainer = try trainer(synthetic, batch: 7, Strategies.flexible([]))
    #expect(trainer.order.batchesPerEpoch == 1)
    let batch = try trainer.dataset.load(
      BatchOrder.Batch(samples: Array(0..<7), position: 0), number: 0)
    #expect(batch.batch.video?.latents.fps == rates)
    let example = try trainer.example(samples: Array(0..<7), noiseSeed: 1)
    let positions = try #require(example.video).input.positions
    for (index, rate) in rates.enumerated() {
      // Tokens 0, 4 and 8 begin at pixel frames 0, 1 and 9 of three latent frames.
      let own = try positions.select(0, index).select(0, 0)
      let starts: [Float] = try own.select(1, 0).array()
      #expect(
        abs(starts[4] - Float(1 / rate)) < 1e-6 && abs(starts[8] - Float(9 / rate)) < 1e-6,
        "\(rate)")
    }
    // A sample's loss is the same alone and in a batch.
    let together: [Float] = try withoutGrad { try trainer.loss(example).array() }
    for index in [0, 6] {
      let alone: [Float] = try withoutGrad {
        try trainer.loss(trainer.example(samples: [index], noiseSeed: 1)).array()
      }
      #expect(abs(alone[0] - together[index]) < 1e-4 * abs(alone[0]), "\(index)")
    }
  }

  @Test func audioOfNearlyOneLengthIsCutToShareABatch() throws {
    let synthetic = try SyntheticRun([6, 7, 6, 8].map { .init(audio: $0) })
    let pairs = try trainer(synthetic, batch: 2, Strategies.everything)
    // 6 and 7 steps are one length; 8 is two more than 6.
    #expect(Set(pairs.batchShapes.keys).count == 2)
    #expect((pairs.batchShapes.cutSamples, pairs.batchShapes.longestCut) == (1, 1))
    #expect(pairs.order.batchesBySize == [2: 1, 1: 2])
    let batch = try pairs.dataset.load(BatchOrder.Batch(samples: [0, 1], position: 0), number: 0)
      .batch
    let whole = try trainer(synthetic, batch: 1, Strategies.everything)
    let second = try whole.dataset.sample(1)
    let audio = try #require(batch.audio)
    #expect(audio.latents.tensor.shape[2] == 6)
    #expect(
      try Tensor.isEqual(
        audio.latents.tensor.select(0, 1),
        #require(second.latents["audio_latents"]).tensor.slice(1, from: 0, to: 6)))
    #expect(
      try Tensor.isEqual(
        #require(audio.masks["audio_masks"]).select(0, 1),
        #require(second.masks["audio_masks"]).slice(0, from: 0, to: 6)))
    // With a batch size of 1, nothing is cut.
    #expect(try #require(second.latents["audio_latents"]).tensor.size(1) == 7)
    #expect(whole.batchShapes.cutSamples == 0)
    // The run uses all samples.
    _ = try pairs.run()
  }

  @Test func theToleranceIs1PercentOrOneStep() {
    #expect([1, 99, 199, 200, 1000].map(BatchShapes.tolerance) == [1, 1, 1, 2, 10])
  }

  @Test func theSummarySaysHowLargeBatchesReallyAre() throws {
    func facts(_ shapes: [SyntheticRun.Shape]) throws -> [String: String] {
      let synthetic = try SyntheticRun(shapes)
      return Dictionary(
        try trainer(synthetic, batch: 2).summary().facts.map { ($0.name, $0.value) },
        uniquingKeysWith: { $1 })
    }
    let near = try facts([29.9, 29.97, 30].map { .init(fps: $0) })
    #expect(near["data"]?.hasPrefix("3 samples of 1 shape in ") == true)
    #expect(
      near["steps"]?.hasPrefix("4 of 1.5 samples on average (2 requested), 2.0 epochs") == true)
    #expect(near["batches"] == "1 of 2 samples and 1 of 1 sample in an epoch")
    let full = try facts([.init(), .init()])
    #expect(full["steps"]?.hasPrefix("4 of 2 samples, 4.0 epochs") == true)
    #expect(full["batches"] == "1 of 2 samples in an epoch")
    let cut = try facts([6, 7].map { .init(audio: $0) })
    #expect(
      cut["batches"]
        == "1 of 2 samples in an epoch; the audio of 1 sample is cut by up to 1 latent step to fill them"
    )
  }
}
