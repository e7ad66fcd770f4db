import NN
import Optimizers
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

  @Test(arguments: [
    (2, "float32"), (4, "float32"), (2, "bf16"), (4, "int8"), (2, "partly"),
  ])
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

  private static func fullConfiguration(_ synthetic: SyntheticRun) -> TrainingConfiguration {
    var c = configuration(synthetic)
    c.lora = nil
    c.model.trainingMode = .full
    c.optimization.schedulerType = .constant
    // Gradients are clipped, which takes their norm over all ranks.
    c.optimization.maxGradNorm = 0.01
    c.checkpoints.saveTrainingState = .full
    return c
  }

  /// Trained tensors, their gradients and their state are divided too.
  @Test(arguments: [
    (2, "float32"), (4, "float32"), (2, "bf16"), (2, "attention"), (4, "accumulated"),
    (2, "averaged"),
  ])
  func fullFineTuning(ranks: Int, variant: String) throws {
    let synthetic = try SyntheticRun((0..<12).map { _ in .init() })
    var c = Self.fullConfiguration(synthetic)
    switch variant {
    case "bf16": c.acceleration.mixedPrecisionMode = .bf16
    case "attention": c.model.trainableModules = ["attn1"]
    case "accumulated": c.optimization.gradientAccumulationSteps = 2
    case "averaged": c.optimization.emaDecay = 0.9
    default: break
    }
    let resident = try RankRun(c, ranks: ranks)
    c.acceleration.weightPlacement = .sharded
    c.outputDir += "-sharded"
    let sharded = try RankRun(c, ranks: ranks)
    #expect(sharded.losses.count == 3)
    let tolerance = variant == "bf16" ? 1e-4 : 1e-6
    for (a, b) in zip(sharded.losses + sharded.validations, resident.losses + resident.validations)
    {
      #expect(abs(a / b - 1) <= tolerance)
    }
    let distance = sharded.distance(to: resident)
    #expect(distance <= tolerance, "\(distance)")
    #expect(sharded.weights.keys == resident.weights.keys)
  }

  /// The files are the same, so that a run moves between numbers of ranks and placements.
  @Test func fullFineTuningMovesBetweenPlans() throws {
    let synthetic = try SyntheticRun((0..<12).map { _ in .init() })
    var c = Self.fullConfiguration(synthetic)
    c.optimization.gradientAccumulationSteps = 4
    c.optimization.steps = 6
    c.optimization.emaDecay = 0.9
    let whole = try RankRun(c, ranks: 1)
    c.outputDir += "-moving"
    c.optimization.gradientAccumulationSteps = 1
    var last = whole
    let parts: [(ranks: Int, placement: WeightPlacement, step: Int)] = [
      (4, .sharded, 2), (2, .resident, 4), (2, .sharded, 6),
    ]
    for part in parts {
      c.acceleration.weightPlacement = part.placement
      c.optimization.steps = part.step
      last = try RankRun(c, ranks: part.ranks)
      #expect(last.losses.count == 2)
    }
    let distance = last.distance(to: whole)
    #expect(distance <= 1e-6, "\(distance)")
  }

  @Test(arguments: ["muon", "adafactor", "prodigy", "adamw8bit"])
  func optimizersThatNeedWholeTensorsAreRefused(name: String) throws {
    let synthetic = try SyntheticRun((0..<8).map { _ in .init() })
    var c = Self.fullConfiguration(synthetic)
    c.optimization.optimizerType = try #require(.init(rawValue: name))
    c.acceleration.weightPlacement = .sharded
    let refused = c
    let text = message { _ = try RankRun(refused, ranks: 2) }
    #expect(text.contains("optimizer_type \(name) needs whole tensors"), "\(text)")
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
    let synthetic = try SyntheticRun((0..<8).map { _ in .init() })
    var c = Self.configuration(synthetic)
    c.acceleration.weightPlacement = .sharded
    let sharded = c
    #expect(message { _ = try Trainer(sharded) }.contains("which needs several processes"))
  }
}
