import Foundation
import TestSupport
import Testing

@testable import Training

/// Runs that resume on another number of ranks.
@Suite struct RankCountTests {
  private static func configuration(
    _ synthetic: SyntheticRun, accumulation: Int
  ) -> TrainingConfiguration {
    var c = synthetic.configuration(Strategies.everything, accumulation: accumulation)
    c.optimization.schedulerType = .constant
    return c
  }

  /// The steps keep their batches, so that four, two, one and three ranks give the weights of one.
  @Test func otherNumbersOfRanksContinueTheSameRun() throws {
    let synthetic = try SyntheticRun((0..<8).map { _ in .init() })
    var alone = Self.configuration(synthetic, accumulation: 4)
    alone.optimization.steps = 8
    let one = try RankRun(alone, ranks: 1)
    var moving = Self.configuration(synthetic, accumulation: 1)
    var losses: [Double] = []
    for (ranks, lastStep) in [(4, 2), (2, 4), (1, 6), (3, 8)] {
      moving.optimization.steps = lastStep
      let part = try RankRun(moving, ranks: ranks)
      losses += part.losses
      guard lastStep == 8 else { continue }
      let distance = part.distance(to: one)
      #expect(distance <= 1e-6, "\(distance)")
    }
    #expect(losses.count == 8)
    for (own, other) in zip(one.losses, losses) { #expect(abs(own / other - 1) <= 1e-6) }
  }

  @Test func moreRanksThanBatchesInAStepAreRefused() throws {
    let synthetic = try SyntheticRun((0..<8).map { _ in .init() })
    var c = Self.configuration(synthetic, accumulation: 1)
    _ = try RankRun(c, ranks: 2)
    c.optimization.steps = 2
    let later = c
    let text = message { _ = try RankRun(later, ranks: 3) }
    #expect(text.contains("a run with 2 batches in each step, too few for 3 ranks"), "\(text)")
  }

  @Test func moreRanksThanSamplesAreRefused() throws {
    let synthetic = try SyntheticRun([.init(), .init()])
    let c = synthetic.configuration(Strategies.everything)
    let text = message { _ = try RankRun(c, ranks: 3) }
    #expect(text.contains("fewer samples to train on (2) than ranks (3)"), "\(text)")
  }

  @Test func ranksWithOtherDataAreRefused() throws {
    let caches = try [8, 9].map { try SyntheticRun((0..<$0).map { _ in .init() }) }
    let first = Self.configuration(caches[0], accumulation: 1)
    var changed = Self.configuration(caches[1], accumulation: 1)
    changed.outputDir = first.outputDir
    let second = changed
    let results = try asRanks(2) { group in
      _ = try Trainer(group.rank == 0 ? first : second, group: group).prepareFolder(.resume)
    }
    for result in results {
      let text = message { try result.get() }
      #expect(text.contains("rank[1]: on ") && text.contains("a run with other values:"), "\(text)")
      #expect(text.contains("All ranks need the same program, configuration, dataset"), "\(text)")
    }
  }
}
