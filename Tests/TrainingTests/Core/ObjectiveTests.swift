import BlockExecution
import Foundation
import LTX
import TestSupport
import Testing
import Torch
import Tracking

@testable import Training

/// The weights of the modalities in the loss.
@Suite struct ObjectiveTests {
  private let trainer: Trainer
  private let example: TrainingExample

  init() throws {
    let synthetic = try SyntheticRun([.init(), .init()])
    trainer = try Trainer(synthetic.configuration(Strategies.flexible([], [])))
    try trainer.randomiseAdapters()
    example = try trainer.example(samples: [0, 1], noiseSeed: 1)
  }

  private func gradients(_ objective: Objective, _ example: TrainingExample) throws
    -> [String: Tensor]
  {
    try trainer.step(example, objective).gradients
  }

  @Test func aWeightOfTwoDoublesTheGradientsExactly() throws {
    let single = try gradients(Objective(), example)
    let double = try gradients(Objective(videoWeight: 2, audioWeight: 2), example)
    #expect(!single.isEmpty && Set(single.keys) == Set(double.keys))
    for (key, gradient) in single {
      #expect(try Tensor.isEqual(double[key] ?? .zeros([0]), gradient * 2), "\(key)")
    }
  }

  /// Without the audio's loss, parameters that affect only the audio have no gradient, and the
  /// others have the gradient of the video's loss alone.
  @Test func aWeightOfZeroRemovesAModality() throws {
    var alone = example
    alone.audio?.target = nil
    let wanted = try gradients(Objective(), alone)
    let found = try gradients(Objective(audioWeight: 0), example)
    let last = trainer.model.transformer.configuration.blocks - 1
    var zeros = 0
    for (key, gradient) in found {
      if let wanted = wanted[key] {
        #expect(try Tensor.isEqual(gradient, wanted), "\(key)")
      } else {
        #expect(try gradient.abs().max().item() == 0, "\(key)")
      }
      if key.contains("transformer_blocks.\(last).video_to_audio_attn") {
        zeros += 1
        #expect(try gradient.abs().max().item() == 0, "\(key)")
      }
    }
    #expect(zeros > 0)
    #expect(try found.values.contains { try $0.abs().max().item() > 0 })
  }

  @Test func theTotalIsWeightedAndThePartsAreNot() throws {
    let plain = try trainer.step.losses(example)
    let losses = try trainer.step.losses(example, Objective(videoWeight: 0.5, audioWeight: 3))
    let (video, audio) = (
      try #require(losses.byModality.video), try #require(losses.byModality.audio)
    )
    #expect(try Tensor.isEqual(video, #require(plain.byModality.video)))
    #expect(try Tensor.isEqual(audio, #require(plain.byModality.audio)))
    #expect(try Tensor.isEqual(losses.total, video * 0.5 + audio * 3))
    #expect(try Tensor.isEqual(plain.total, video + audio))
  }

  /// The weights reach the records of a run, its gradients and its validation loss.
  @Test func aRunTrainsWithItsWeights() throws {
    let synthetic = try SyntheticRun([.init(), .init(), .init()])
    func record(_ video: Double, _ audio: Double) throws -> (StepRecord, ValidationRecord) {
      var strategy = FlexibleStrategy(
        video: ModalityStrategy(isGenerated: true, latentsFolder: "latents"),
        audio: ModalityStrategy(isGenerated: true, latentsFolder: "audio_latents"))
      strategy.objective = Objective(videoWeight: video, audioWeight: audio)
      var c = synthetic.configuration(.flexible(strategy))
      c.validation.heldOut.count = 1
      let trainer = try Trainer(c)
      try trainer.randomiseAdapters()
      var (step, validation): (StepRecord?, ValidationRecord?)
      var events = TrainingEvents()
      events.stepped = { step = $0 }
      events.validated = { validation = validation ?? $0 }
      _ = try trainer.run(events)
      return (try #require(step), try #require(validation))
    }
    let (plain, plainValidation) = try record(1, 1)
    let (weighted, validation) = try record(2, 2)
    #expect(weighted.loss == 2 * plain.loss && weighted.gradientNorm == 2 * plain.gradientNorm)
    #expect(weighted.videoLoss == plain.videoLoss && weighted.audioLoss == plain.audioLoss)
    #expect(abs(validation.loss / plainValidation.loss - 2) < 1e-12)
    #expect(validation.videoLoss == plainValidation.videoLoss)
  }
}
