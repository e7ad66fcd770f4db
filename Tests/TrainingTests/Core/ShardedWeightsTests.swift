import NN
import TestSupport
import Testing
import Torch

@testable import Training

/// Frozen weights that are divided among ranks give the results of weights that each rank has.
@Suite struct ShardedWeightsTests {
  private static func configuration(_ synthetic: SyntheticRun) -> TrainingConfiguration {
    var c = synthetic.configuration(Strategies.everything, steps: 3)
    c.optimization.enableGradientCheckpointing = true
    // Three samples for two or four ranks: some measure one again, and its loss must not count.
    c.validation.heldOut.count = 3
    return c
  }

  @Test(arguments: [2, 4], ["float32", "bf16", "int8", "partly"])
  func theSameBits(ranks: Int, variant: String) throws {
    let synthetic = try SyntheticRun((0..<12).map { _ in .init() })
    var c = Self.configuration(synthetic)
    if variant != "float32" { c.acceleration.mixedPrecisionMode = .bf16 }
    if variant == "int8" { c.acceleration.quantization = .int8 }
    let resident = try RankRun(c, ranks: ranks)
    c.acceleration.weightPlacement = .sharded
    if variant == "partly" { c.acceleration.streamedBlocks = 1 }
    c.outputDir += "-sharded"
    let sharded = try RankRun(c, ranks: ranks)
    #expect(sharded.losses.count == 3 && sharded.validations.count == 2)
    #expect(sharded == resident)
  }

  /// Each rank holds its part of the blocks, and two whole blocks.
  @Test func ranksHoldTheirPart() throws {
    let synthetic = try SyntheticRun((0..<8).map { _ in .init() })
    var c = Self.configuration(synthetic)
    let planned = { (c: TrainingConfiguration) in
      try asRanks(2) { try Trainer(c, group: $0).model.plan.planned }.map { try $0.get() }[0]
    }
    c.acceleration.weightPlacement = .resident
    let resident = try planned(c)
    c.acceleration.weightPlacement = .sharded
    let sharded = try planned(c)
    #expect(sharded.placement == .sharded)
    let blocks = sharded.streamedBlocks
    try #require(blocks > 0)
    let block = resident.weightBytes / blocks
    #expect(sharded.weightBytes == 2 * block + blocks * block / 2)
  }

  @Test func oneProcessCantShard() throws {
    let synthetic = try SyntheticRun([.init(), .init(), .init(), .init()])
    var c = Self.configuration(synthetic)
    c.acceleration.weightPlacement = .sharded
    let sharded = c
    #expect(message { _ = try Trainer(sharded) }.contains("which needs several processes"))
  }
}
