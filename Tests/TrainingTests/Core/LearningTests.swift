import Foundation
import LTX
import TestSupport
import Testing
import Torch
import Tracking

@testable import Training

/// The report of what a run has learned.
@Suite struct LearningTests {
  private let synthetic: SyntheticRun

  init() throws { synthetic = try SyntheticRun((0..<3).map { _ in .init() }, seed: 5) }

  private func configuration(_ strategy: TrainingStrategy = Strategies.flexible([], []))
    -> TrainingConfiguration
  {
    var c = synthetic.configuration(strategy, steps: 2)
    c.validation.interval = nil
    c.validation.heldOut.count = 1
    return c
  }

  private func learned(_ c: TrainingConfiguration) throws -> LearningSummary {
    let trainer = try Trainer(c)
    _ = try trainer.prepareFolder(.resume)
    var events = TrainingEvents()
    var told: [LearningSummary] = []
    events.learned = { told.append($0) }
    let result = try trainer.run(events)
    #expect(told.count == 1 && told.first == result.learning)
    return try #require(result.learning)
  }

  /// |B A| relative to |W|, computed from the full products.
  @Test func theChangeIsTheAdapters() throws {
    let c = configuration()
    let trainer = try Trainer(c)
    _ = try trainer.prepareFolder(.resume)
    let summary = try #require(try trainer.run().learning)
    let source = trainer.model.checkpoint.source
    var (change, base) = (0.0, 0.0)
    let tensors = Dictionary(uniqueKeysWithValues: trainer.parameters.map { ($0.key, $0.tensor) })
    for (key, a) in tensors where key.hasSuffix(".lora_A.weight") && !key.contains("audio") {
      let module = key.dropLast(".lora_A.weight".count)
      let b = try #require(tensors["\(module).lora_B.weight"])
      let product: Double = try (b.detach().matmul(a.detach()) * 2).square().sum().item()
      let weight: Double = try source.tensor("\(module).weight").to(.float32).square().sum().item()
      (change, base) = (change + product, base + weight)
    }
    let group = try #require(summary.groups.first { $0.name == "video" })
    let measured = try #require(group.change)
    #expect(abs(measured / (change / base).squareRoot() - 1) < 1e-4)
    #expect(summary.groups.map(\.name) == ["video", "audio", "cross"])
    #expect(summary.total.modules == tensors.count / 2 && summary.total.unmoved == 0)
    #expect((summary.before?.step, summary.after?.step) == (0, 2))
    #expect(summary.before?.audioLoss != summary.after?.audioLoss)
    #expect(summary.untrained.isEmpty)
    #expect(summary.sentence.contains("audio loss "))
  }

  @Test func nothingMoved() throws {
    var c = configuration()
    c.optimization.learningRate = 0
    let still = try learned(c)
    #expect(still.total.unmoved == still.total.modules)
    #expect(still.sentence.hasPrefix("none of the ") && still.isSuspicious)
    c = configuration()
    c.optimization.learningRate = 1e-9
    let barely = try learned(c)
    #expect(barely.total.unmoved == 0)
    #expect(barely.sentence.contains("audio adapters barely moved: ") && barely.isSuspicious)
  }

  @Test(arguments: [false, true]) func aRunThatContinuesIsMeasuredFromItsStart(isDoRA: Bool) throws
  {
    var first = configuration()
    first.lora?.useDoRA = isDoRA
    first.checkpoints.precision = .float32
    let moved = try learned(first)
    var second = first
    second.outputDir += "-2"
    second.model.loadCheckpoint =
      first.outputDir + "/checkpoints/lora_weights_step_00002.safetensors"
    second.checkpoints.noResume = true
    second.optimization.learningRate = 0
    let still = try learned(second)
    #expect(still.continues && still.total.unmoved == still.total.modules)
    second.outputDir += "-3"
    second.optimization.learningRate = 1e-3
    let further = try learned(second)
    let (a, b) = (try #require(moved.groups[0].change), try #require(further.groups[0].change))
    #expect(b > 0.1 * a && b < 3 * a && further.total.unmoved == 0)
  }

  @Test func allWeights() throws {
    var c = configuration(Strategies.flexible([]))
    c.lora = nil
    c.model.trainingMode = .full
    c.optimization.learningRate = 1e-4
    let summary = try learned(c)
    #expect(summary.subject == .weights && summary.total.unmoved == 0)
    let change = try #require(summary.groups.first?.change)
    // AdamW moves each weight by about the learning rate per step.
    #expect(change > 1e-4 && change < 1e-1)
    #expect(summary.untrained == ["audio"] && summary.sentence.contains("audio was not trained"))
  }

  /// Non-finite factors are counted, and the finite ones are still measured.
  @Test func nonFiniteAdaptersAreReported() throws {
    let trainer = try Trainer(configuration())
    try trainer.randomiseAdapters()
    let broken = try #require(trainer.parameters.first { $0.key.hasSuffix("lora_B.weight") })
    try withoutGrad {
      try broken.tensor.copy_(Tensor.full(broken.tensor.shape, Scalar(Double.nan)))
    }
    let summary = try trainer.learning(
      WholeTensors(trainer.parameters.map { ($0.key, $0.tensor) }))
    #expect(summary.total.nonFinite == 1 && summary.nonFiniteModules.count == 1)
    #expect(summary.sentence.hasPrefix("1 of \(summary.total.modules) adapters are not finite"))
    #expect(summary.groups.allSatisfy { $0.change?.isFinite == true })
  }
}
