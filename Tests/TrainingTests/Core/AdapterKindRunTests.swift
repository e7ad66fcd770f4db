import Foundation
import LTX
import LoRAFiles
import NN
import TestSupport
import Testing
import Torch
import Tracking

@testable import Training

/// Runs with every kind of adapter.
@Suite struct AdapterKindRunTests {
  private let synthetic: SyntheticRun

  init() throws { synthetic = try SyntheticRun([.init()], seed: 5) }

  private func configuration(_ kind: AdapterKind) -> TrainingConfiguration {
    var c = synthetic.configuration(Strategies.flexible([], []), steps: 30)
    c.lora?.type = kind
    c.lora?.alpha = 4
    // With the output layers, the velocity itself can be learned in a few steps.
    c.lora?.targetModules = ["to_q", "to_v", "net.2", "proj_out", "audio_proj_out"]
    c.optimization.learningRate = 5e-3
    c.optimization.maxGradNorm = 1
    c.optimization.schedulerType = .constant
    c.validation.interval = nil
    c.checkpoints.precision = .float32
    c.checkpoints.saveTrainingState = .full
    return c
  }

  private func run(
    _ c: TrainingConfiguration, stoppingAfter last: Int? = nil
  ) throws -> (trainer: Trainer, losses: [Double], weights: String) {
    let trainer = try Trainer(c)
    _ = try trainer.prepareFolder(.resume)
    var events = TrainingEvents()
    var losses: [Double] = []
    events.stepped = { losses.append($0.loss) }
    events.shouldStop = { trainer.completedSteps == last }
    let result = try trainer.run(events)
    return (trainer, losses, try #require(result.weights))
  }

  /// The loss of random latents falls from about 3 to 2 as the output shrinks.
  @Test(arguments: AdapterKinds.all)
  func aRunLearnsResumesExactlyAndItsFileActsAsTheRunDid(_ kind: AdapterKind) throws {
    let whole = try run(configuration(kind))
    func mean(_ losses: some Collection<Double>) -> Double {
      losses.reduce(0, +) / Double(losses.count)
    }
    let (first, last) = (mean(whole.losses.prefix(10)), mean(whole.losses.suffix(10)))
    #expect(last < first, "\(first) to \(last)")

    let c = configuration(kind)
    let half = try run(c, stoppingAfter: 13)
    #expect(half.losses.count == 13)
    let rest = try run(c)
    #expect(half.losses + rest.losses == whole.losses)
    for (a, b) in zip(whole.trainer.parameters, rest.trainer.parameters) {
      #expect(a.key == b.key)
      #expect(try Tensor.isEqual(a.tensor, b.tensor), "\(a.key)")
    }

    let file = try LoRAFile(path: whole.weights)
    #expect(file.modules.allSatisfy { $0.kind == kind })
    #expect(file.metadata["lora_type"] == kind.rawValue)
    let scale = try #require(whole.trainer.model.adapterScale)
    let saved = try file.initialAdapters(scale: scale)
    for parameter in whole.trainer.parameters {
      let adapter = try #require(saved.adapters.first { parameter.key.hasPrefix("\($0.key).") })
      let tensor = try #require(
        adapter.value[String(parameter.key.dropFirst(adapter.key.count + 1))])
      #expect(
        try LoRAFixture.distance(tensor, parameter.tensor.detach()) < 1e-6, "\(parameter.key)")
    }
    let change = try AdapterChange(file, checkpoint: whole.trainer.model.checkpoint)
    #expect(!change.isSuspicious, "\(change.sentences)")
  }
}
