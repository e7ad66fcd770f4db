import BlockExecution
import Foundation
import LTX
import NN
import TestSupport
import Testing
import Torch
import Tracking

@testable import Training

/// The execution of a step - its plan, and the split of its samples into batches and ranks - does
/// not change the gradients.
@Suite struct GradientEqualityTests {
  /// The compared results of a run: by step, its loss, the losses by sigma, and all gradients.
  private struct Outcome: Sendable {
    var losses: [Double] = []
    var sigmaLosses: [[String: Double]] = []
    var gradients: [[String: [Float]]] = []

    /// The distance between all gradients of a step as one vector and those of another run,
    /// relative to the latter.
    func distance(to other: Outcome, step: Int) -> Double {
      var (far, all) = (0.0, 0.0)
      for (key, own) in gradients[step] {
        let theirs = other.gradients[step][key] ?? []
        for (a, b) in zip(own, theirs) {
          far += Double(a - b) * Double(a - b)
          all += Double(b) * Double(b)
        }
      }
      return (far / all).squareRoot()
    }
  }

  /// Trains without changing the weights.
  private static func run(_ c: TrainingConfiguration, group: ProcessGroup = .single) throws
    -> Outcome
  {
    let trainer = try Trainer(c, group: group)
    try trainer.randomiseAdapters()
    let recorder = GradientRecorder(trainer.optimization.optimizer)
    trainer.optimization.optimizer = recorder
    var outcome = Outcome()
    var events = TrainingEvents()
    events.stepped = { record in
      outcome.losses.append(record.loss)
      outcome.sigmaLosses.append(record.sigmaLosses)
    }
    _ = try trainer.run(events)
    outcome.gradients = try recorder.gradients.map { try $0.mapValues { try $0.array() } }
    return outcome
  }

  private static func expectEqual(_ got: Outcome, _ want: Outcome, _ what: Comment) {
    #expect(got.losses.count == want.losses.count, what)
    #expect(got.gradients.map { Set($0.keys) } == want.gradients.map { Set($0.keys) }, what)
    guard got.gradients.count == want.gradients.count else { return }
    for step in want.losses.indices {
      #expect(want.gradients[step].values.contains { $0.contains { $0 != 0 } }, what)
      #expect(abs(got.losses[step] / want.losses[step] - 1) <= 1e-6, what)
      #expect(Set(got.sigmaLosses[step].keys) == Set(want.sigmaLosses[step].keys), what)
      for (bucket, loss) in want.sigmaLosses[step] {
        #expect(abs((got.sigmaLosses[step][bucket] ?? .nan) / loss - 1) <= 1e-6, what)
      }
      let distance = got.distance(to: want, step: step)
      #expect(distance <= 1e-6, "\(what): gradients of step \(step) differ by \(distance)")
    }
  }

  /// Recomputed and kept activations give the same bits, for examples of every strategy and the
  /// layers of both layouts.
  @Test(arguments: Strategies.all.indices, [false, true])
  func recomputing(index: Int, isPack: Bool) throws {
    let synthetic = try SyntheticRun(
      [.init(), .init(), .init()], pack: isPack ? .ltx25(isSplit: true) : nil)
    let trainer = try Trainer(synthetic.configuration(Strategies.all[index].strategy))
    try trainer.randomiseAdapters()
    for seed in UInt64(1)...3 {
      let example = try trainer.example(samples: [0, 1, 2], noiseSeed: seed)
      let results = try ActivationPolicy.allCases.map { policy in
        let plan = ExecutionPlan(
          blocks: trainer.model.transformer.configuration.blocks, activations: policy)
        return try TrainingStep(transformer: trainer.model.transformer, plan: plan)(example)
      }
      let first = results[0]
      #expect(first.gradients.count > 0)
      for other in results.dropFirst() {
        #expect(try Tensor.isEqual(other.loss, first.loss), "\(Strategies.all[index].name)")
        #expect(Set(other.gradients.keys) == Set(first.gradients.keys))
        for (key, gradient) in first.gradients {
          let own = try #require(other.gradients[key])
          #expect(try Tensor.isEqual(own, gradient), "\(Strategies.all[index].name): \(key)")
        }
      }
      #expect(try trainer.loss(example).isAllFinite())
    }
  }

  /// Every plan gives the same bits, whatever is trained and in whatever precision.
  @Test(arguments: [
    ("lora", "no", "null"), ("lora", "bf16", "null"), ("lora", "no", "int8-quanto"),
    ("lora", "bf16", "int8-quanto"), ("full", "no", "null"), ("full", "bf16", "null"),
  ])
  func plans(_ mode: String, _ precision: String, _ quantization: String) throws {
    let synthetic = try SyntheticRun([.init(), .init()])
    var c = synthetic.configuration(Strategies.everything)
    c.model.trainingMode = try #require(.init(rawValue: mode))
    if mode == "full" { c.lora = nil }
    c.acceleration.mixedPrecisionMode = .init(rawValue: precision)
    c.acceleration.quantization = BaseQuantization(rawValue: quantization)
    let trainer = try Trainer(c)
    if mode == "lora" { try trainer.randomiseAdapters() }
    let example = try trainer.example(samples: [0, 1], noiseSeed: 1)
    let blocks = trainer.model.transformer.configuration.blocks
    let all = ActivationPolicy.allCases
    // All blocks alike, and each block different from the next.
    let plans =
      all.map { policy in (0..<blocks).map { _ in policy } }
      + all.indices.map { start in (0..<blocks).map { all[(start + $0) % all.count] } }
    let results = try plans.map { policies in
      let plan = ExecutionPlan(
        steps: policies.map { .init(activations: $0) }, autocast: trainer.model.autocast)
      return try TrainingStep(transformer: trainer.model.transformer, plan: plan)(example)
    }
    #expect(results[0].gradients.count > 0)
    for (policies, other) in zip(plans, results).dropFirst() {
      #expect(try Tensor.isEqual(other.loss, results[0].loss), "\(policies)")
      #expect(Set(other.gradients.keys) == Set(results[0].gradients.keys))
      for (key, gradient) in results[0].gradients {
        let own = try #require(other.gradients[key])
        #expect(try Tensor.isEqual(own, gradient), "\(policies): \(key)")
      }
    }
  }

  /// Four samples at once, in parts, or on ranks give the same step. Each sample has its own random
  /// numbers, so they are the same too.
  @Test(arguments: [
    "video", "both", "text to video with audio", "mask", "audio to video", "everything",
  ])
  func batchesAndRanks(name: String) throws {
    let strategy = try #require(Strategies.all.first { $0.name == name }).strategy
    let synthetic = try SyntheticRun((0..<8).map { _ in .init() })
    let steps = 3
    let whole = try Self.run(synthetic.configuration(strategy, batch: 4, steps: steps))
    #expect(whole.losses.count == steps)
    for (batch, parts) in [(2, 2), (1, 4)] {
      let split = try Self.run(
        synthetic.configuration(strategy, batch: batch, accumulation: parts, steps: steps))
      Self.expectEqual(split, whole, "\(parts) x \(batch) samples")
    }
    for (batch, parts) in [(2, 1), (1, 2)] {
      let c = synthetic.configuration(strategy, batch: batch, accumulation: parts, steps: steps)
      for rank in try asRanks(2, { try Self.run(c, group: $0) }) {
        Self.expectEqual(try rank.get(), whole, "two ranks of \(parts) x \(batch) samples")
      }
    }
  }

  /// With samples of two shapes and partly filled batches, each sample still has the same weight on
  /// any rank.
  @Test func mixedBuckets() throws {
    // Seven of one shape and four of another make batches of 3, 3, 1 and 3, 1.
    let synthetic = try SyntheticRun((0..<11).map { $0 % 3 == 1 ? .other : .init() })
    let steps = 4
    func configuration(_ parts: Int) -> TrainingConfiguration {
      synthetic.configuration(Strategies.everything, batch: 3, accumulation: parts, steps: steps)
    }
    let alone = try Self.run(configuration(4))
    let c = configuration(2)
    for rank in try asRanks(2, { try Self.run(c, group: $0) }) {
      Self.expectEqual(try rank.get(), alone, "two ranks of two batches")
    }
    var order = try Trainer(configuration(4)).order
    let sizes = try (0..<16).map { try order.batch($0).samples.count }
    #expect(Set(sizes) == [1, 3])
  }

  /// A step of unequal batches is the mean over its samples, as computed one by one.
  @Test func everySampleCountsTheSame() throws {
    let synthetic = try SyntheticRun((0..<5).map { $0 < 3 ? .init() : .other })
    let c = synthetic.configuration(Strategies.flexible([], []), batch: 3, accumulation: 2)
    let run = try Self.run(c)
    let trainer = try Trainer(c)
    try trainer.randomiseAdapters()
    var sums: [String: Tensor] = [:]
    var losses: [Double] = []
    for number in 0..<2 {
      let batch = try trainer.order.batch(number)
      for (offset, sample) in batch.samples.enumerated() {
        let loaded = try trainer.dataset.load(
          BatchOrder.Batch(samples: [sample], position: 0), number: 0)
        let own = try Generator(
          seed: RandomSeed.mix(UInt64(c.seed), "sample", batch.position + offset))
        let draws = try trainer.flowMatching.draws(
          for: loaded.batch, samples: [own], step: Generator(seed: 0))
        let result = try trainer.step(trainer.example(loaded, draws))
        losses.append(try result.loss.item())
        for (key, gradient) in result.gradients {
          sums[key] = try sums[key].map { try $0 + gradient } ?? gradient
        }
      }
    }
    #expect(losses.count == 5)
    let want = Outcome(
      losses: [losses.reduce(0, +) / 5], sigmaLosses: run.sigmaLosses,
      gradients: [try sums.mapValues { try ($0 * 0.2).array() }])
    Self.expectEqual(run, want, "the mean over five samples")
  }
}
