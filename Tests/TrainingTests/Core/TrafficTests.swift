import TestSupport
import Testing
import Torch

@testable import Training

/// The collectives of a training step, counted.
@Suite struct TrafficTests {
  private struct Counted: Sendable {
    var traffic: ProcessGroup.Traffic
    var sentBytes: Double
    /// The elements of the trained tensors of each block, and of those outside of the blocks.
    var blocks: [Int]
    var others: Int
    /// The largest number of samples of a rank.
    var samples: Int
  }

  /// Counts the exchanges of the second step.
  private func count(_ c: TrainingConfiguration, ranks: Int) throws -> Counted {
    let all = try asRanks(ranks) { group -> Counted in
      let trainer = try Trainer(c, group: group)
      let loader = BatchLoader(
        trainer.dataset, order: trainer.order, share: trainer.batchShare, steps: 0..<2, workers: 0,
        device: .cpu, draws: trainer.draws)
      _ = try trainer.trainStep(0, loader)
      let before = group.traffic
      _ = try trainer.trainStep(1, loader)
      let traffic = group.traffic - before
      let blocks = trainer.model.transformer.blocks.blocks.map { block in
        block.parameters.reduce(0) { $0 + $1.shape.reduce(1, *) }
      }
      let whole = trainer.parameters.reduce(0) { $0 + $1.shape.reduce(1, *) }
      return Counted(
        traffic: traffic, sentBytes: traffic.sentBytes(ranks: ranks), blocks: blocks,
        others: whole - blocks.reduce(0, +),
        samples: trainer.batchShare.largestCount * c.optimization.batchSize)
    }.map { try $0.get() }
    for other in all { #expect(other.traffic == all[0].traffic) }
    return try #require(all.first)
  }

  /// The bytes of the exchange of losses: two numbers, and five for each sample, from each rank.
  private func lossBytes(_ counted: Counted, ranks: Int) -> Int {
    (2 + 5 * counted.samples) * 8 * ranks
  }

  /// Accumulated gradients are exchanged once.
  @Test(arguments: [(2, 1), (2, 3), (4, 1)])
  func aStepHasOneSumForEachBlockAndOneExchange(ranks: Int, accumulation: Int) throws {
    let synthetic = try SyntheticRun((0..<12).map { _ in .init() })
    let c = synthetic.configuration(
      Strategies.flexible([], []), accumulation: accumulation, steps: 2)
    let counted = try count(c, ranks: ranks)
    let gradients = 4 * (counted.blocks.reduce(0, +) + counted.others)
    #expect(counted.blocks.allSatisfy { $0 > 0 })
    let sums = counted.blocks.count + (counted.others > 0 ? 1 : 0)
    #expect(counted.traffic.allReduce == .init(calls: sums, bytes: gradients))
    #expect(
      counted.traffic.allGather == .init(calls: 1, bytes: lossBytes(counted, ranks: ranks)))
    #expect(counted.traffic.reduceScatter.calls == 0 && counted.traffic.broadcast.calls == 0)
    let part = Double(ranks - 1) / Double(ranks)
    let floor = 2 * part * Double(gradients)
    #expect(
      counted.sentBytes == floor + part * Double(lossBytes(counted, ranks: ranks)))
  }

  /// Each block's weights are gathered in the forward and in the backward pass, and its gradients
  /// are scattered once.
  @Test func shardedWeightsAreGatheredTwiceAndGradientsScatteredOnce() throws {
    let synthetic = try SyntheticRun((0..<4).map { _ in .init() })
    var c = synthetic.configuration(Strategies.flexible([], []), steps: 2)
    c.model.trainingMode = .full
    c.lora = nil
    c.optimization.enableGradientCheckpointing = true
    c.acceleration.weightPlacement = .sharded
    c.optimization.optimizerType = .adamw
    let counted = try count(c, ranks: 2)
    // Tensors whose elements don't divide evenly are filled up.
    let blocks = 4 * counted.blocks.reduce(0, +)
    #expect(counted.traffic.reduceScatter.calls == counted.blocks.count)
    #expect((blocks...blocks * 101 / 100).contains(counted.traffic.reduceScatter.bytes))
    let gathered = counted.traffic.allGather.bytes - lossBytes(counted, ranks: 2)
    #expect(counted.traffic.allGather.calls == 2 * counted.blocks.count + 1)
    #expect((2 * blocks...2 * blocks * 101 / 100).contains(gathered))
    #expect(counted.traffic.allReduce.bytes >= 4 * counted.others)
    #expect(counted.traffic.allReduce.bytes <= 4 * counted.others + 64)
  }
}
