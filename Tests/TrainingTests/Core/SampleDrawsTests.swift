import Foundation
import LTX
import Support
import TestSupport
import Testing
import Torch

@testable import Training

/// The random numbers of a sample depend only on the sample and its position in the run.
@Suite struct SampleDrawsTests {
  private static func flow(_ strategy: TrainingStrategy) -> FlowMatching {
    FlowMatching(
      strategies: strategy.modalities, sampler: .shiftedLogitNormal(), factors: .usual)
  }

  private static func generators(_ seeds: [UInt64]) throws -> [Generator] {
    try seeds.map { try Generator(seed: $0) }
  }

  /// A sample has the same random numbers in a batch and alone.
  @Test func batchesDrawSampleBySample() throws {
    let synthetic = try SyntheticRun((0..<3).map { _ in .init() })
    let trainer = try Trainer(synthetic.configuration(Strategies.everything))
    func draws(_ samples: [Int]) throws -> TrainingDraws {
      let loaded = try trainer.dataset.load(
        BatchOrder.Batch(samples: samples, position: 0), number: 0)
      return try trainer.flowMatching.draws(
        for: loaded.batch, samples: Self.generators(samples.map { UInt64($0 + 10) }),
        step: Generator(seed: 5)
      )
    }
    let all = try draws([0, 1, 2])
    for index in 0..<3 {
      let alone = try draws([index])
      for (batch, own) in [(all.video, alone.video), (all.audio, alone.audio)] {
        let (batch, own) = (try #require(batch), try #require(own))
        #expect(
          try Tensor.isEqual(
            #require(batch.noise).slice(0, from: index, to: index + 1), #require(own.noise)))
        #expect(
          try Tensor.isEqual(
            #require(batch.sigma).slice(0, from: index, to: index + 1), #require(own.sigma)))
        #expect(batch.conditions.map { $0[index] } == own.conditions.map { $0[0] })
      }
    }
    // The samples differ from each other; the decision on references applies to the step.
    let conditions = try #require(all.video).conditions
    #expect(Set(conditions[0]).count == 3)
    #expect(Set(conditions[2]).count == 1)
  }

  /// The modalities draw separately, except in the older strategy, where audio has the video's
  /// sigma.
  @Test func streamsDrawOnTheirOwn() throws {
    let synthetic = try SyntheticRun([.init()])
    for (strategy, isShared) in [
      (Strategies.flexible([], []), false), (Strategies.textToVideo(0, withAudio: true), true),
    ] {
      let trainer = try Trainer(synthetic.configuration(strategy))
      let loaded = try trainer.dataset.load(BatchOrder.Batch(samples: [0], position: 0), number: 0)
      let draws = try Self.flow(strategy).draws(
        for: loaded.batch, samples: Self.generators([3]), step: Generator(seed: 4))
      let (video, audio) = (try #require(draws.video?.sigma), try #require(draws.audio?.sigma))
      #expect(try Tensor.isEqual(video, audio) == isShared)
    }
  }

  /// Dropout has its own random numbers: examples don't change, and a pass can be repeated.
  @Test func dropout() throws {
    let synthetic = try SyntheticRun((0..<4).map { _ in .init() })
    func run(_ dropout: Double, recomputes: Bool = false) throws -> (
      losses: [Double], weights: [[Float]]
    ) {
      var c = synthetic.configuration(Strategies.everything, batch: 2, steps: 3, dropout: dropout)
      c.optimization.enableGradientCheckpointing = recomputes
      let trainer = try Trainer(c)
      var losses: [Double] = []
      var events = TrainingEvents()
      events.stepped = { losses.append($0.loss) }
      _ = try trainer.run(events)
      return (losses, try trainer.parameters.map { try $0.tensor.array() })
    }
    let (without, with) = (try run(0), try run(0.5))
    // B is 0 in the first step, so dropout makes no difference: the example is the same.
    #expect(with.losses[0] == without.losses[0])
    #expect(with.losses[2] != without.losses[2])
    #expect(with.weights != without.weights)
    for recomputes in [false, true] {
      let again = try run(0.5, recomputes: recomputes)
      #expect(again.losses == with.losses)
      #expect(again.weights == with.weights)
    }
  }

  /// Two ranks share one sequence of batches, across the ends of epochs, with any number of threads
  /// that load ahead.
  @Test(arguments: [0, 3]) func ranksShareTheOrder(workers: Int) throws {
    let synthetic = try SyntheticRun((0..<5).map { $0 < 3 ? .init() : .other })
    let trainer = try Trainer(synthetic.configuration(Strategies.flexible([], []), batch: 2))
    func loader(rank: Int, of ranks: Int) -> BatchLoader {
      BatchLoader(
        trainer.dataset, order: trainer.order,
        share: BatchShare(batchesPerStep: 2, ranks: WorkShare(index: rank, count: ranks)),
        steps: 0..<6, workers: workers, device: .cpu, draws: trainer.draws)
    }
    let all = loader(rank: 0, of: 1)
    let ranks = [loader(rank: 0, of: 2), loader(rank: 1, of: 2)]
    var samples: [[Int]] = []
    for number in 0..<12 {
      let ((batch, draws), (own, theirDraws)) = (try all.next(), try ranks[number % 2].next())
      #expect((batch.number, own.number) == (number, number))
      #expect(batch.order == own.order)
      let (latents, theirs) = (try #require(batch.batch.video), try #require(own.batch.video))
      #expect(try Tensor.isEqual(latents.latents.tensor, theirs.latents.tensor))
      let noise = (try #require(draws.video?.noise), try #require(theirDraws.video?.noise))
      #expect(try Tensor.isEqual(noise.0, noise.1))
      samples.append(batch.order.samples)
    }
    #expect(trainer.order.batchesPerEpoch == 3)
    let epochs = stride(from: 0, to: 12, by: 3).map { samples[$0..<$0 + 3].flatMap { $0 } }
    for epoch in epochs { #expect(epoch.sorted() == [0, 1, 2, 3, 4]) }
    #expect(Set(epochs).count > 1)
  }

  /// All ranks together process the batches of each step once, whatever their number is.
  @Test func batchesAreDealtToTheRanks() {
    for (batches, ranks) in [(1, 1), (4, 1), (4, 2), (4, 3), (5, 5), (6, 4)] {
      let shares = (0..<ranks).map {
        BatchShare(batchesPerStep: batches, ranks: WorkShare(index: $0, count: ranks))
      }
      #expect(shares.reduce(0) { $0 + $1.count } == batches)
      #expect(shares.map(\.count).max() == shares[0].largestCount)
      #expect((shares.map(\.count).min() ?? 0) >= 1)
      for step in 0..<3 {
        let numbers = shares.flatMap { share in
          (0..<share.count).map { share.number(step * share.count + $0, from: 7) }
        }
        #expect(numbers.sorted() == Array((7 + step) * batches..<(8 + step) * batches))
      }
    }
  }

  /// Records count epochs and samples over all ranks.
  @Test func recordsCountEpochs() throws {
    let synthetic = try SyntheticRun((0..<5).map { $0 < 3 ? .init() : .other })
    let c = synthetic.configuration(Strategies.flexible([]), batch: 2, steps: 4)
    for result in try asRanks(
      2,
      { group -> (epochs: [Double?], samples: [Int?]) in
        let trainer = try Trainer(c, group: group)
        var records: (epochs: [Double?], samples: [Int?]) = ([], [])
        var events = TrainingEvents()
        events.stepped = {
          records.epochs.append($0.epoch)
          records.samples.append($0.samples)
        }
        _ = try trainer.run(events)
        return records
      })
    {
      let records = try result.get()
      let wanted = [2, 4, 6, 8].map { Double($0) / 3 }
      #expect(records.epochs.count == 4)
      for (epoch, want) in zip(records.epochs, wanted) {
        #expect(abs((epoch ?? .nan) - want) < 1e-12)
      }
      // An epoch has three batches of 2, 1 and 2 samples in some order, and a step has two: twelve
      // batches are four epochs.
      #expect(records.samples.prefix(3).compactMap { $0 }.reduce(0, +) == 10)
    }
  }
}
