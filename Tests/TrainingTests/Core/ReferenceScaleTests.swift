import LTX
import Support
import Testing
import Torch

@testable import Training

/// The scales of references, by the official trainer's rules.
@Suite struct ReferenceScaleTests {
  @Test func inferred() throws {
    func scale(_ reference: [Int], _ target: [Int]) throws -> [Int] {
      let scale = try ReferenceScale(reference: reference, target: target)
      return [scale.space, scale.time]
    }
    #expect(try scale([3, 4, 6], [3, 4, 6]) == [1, 1])
    #expect(try scale([3, 2, 3], [3, 4, 6]) == [2, 1])
    // The first latent frame stands for one frame, the others for groups of frames.
    #expect(try scale([3, 4, 6], [5, 4, 6]) == [1, 2])
    #expect(try scale([2, 1, 2], [7, 3, 6]) == [3, 6])
    #expect(try scale([1, 4, 6], [5, 4, 6]) == [1, 1])
    #expect(try scale([5, 4, 6], [1, 4, 6]) == [1, 1])
    #expect(try scale([1, 2, 2], [1, 5, 5]) == [2, 1])
  }

  /// In the older strategy, references keep their frame rate and may have any length.
  @Test func older() throws {
    for frames in [1, 2, 4, 9] {
      let scale = try ReferenceScale(
        reference: [frames, 2, 3], target: [5, 4, 6], keepsTime: true)
      #expect(scale == ReferenceScale(space: 2, time: 1))
    }
  }

  @Test func refused() throws {
    func problem(_ reference: [Int], _ target: [Int], keepsTime: Bool = false) throws -> String {
      try #require(throws: Support.Issue.self) {
        try ReferenceScale(reference: reference, target: target, keepsTime: keepsTime)
      }.description
    }
    #expect(
      try problem([3, 2, 2], [3, 4, 6]).contains("must be smaller by the same integer factor"))
    #expect(try problem([3, 8, 12], [3, 4, 6]).contains("3 latent frames of 8 x 12 cells"))
    #expect(
      try problem([4, 4, 6], [5, 4, 6]).contains("must have a number of frames that divides"))
    #expect(
      try problem([3, 2, 2], [3, 5, 5], keepsTime: true).contains(
        "must be smaller by the same integer factor"))
  }

  @Test func metadata() {
    #expect(ReferenceScale().metadata.isEmpty)
    #expect(
      ReferenceScale(space: 2, time: 3).metadata == [
        "reference_spatial_scale_factor": "2", "reference_downscale_factor": "2",
        "reference_temporal_scale_factor": "3",
      ])
  }

  /// A dataset of references that are longer than their clips trains in the older strategy.
  @Test func datasetOfLongerReferences() throws {
    let synthetic = try SyntheticRun([.init(), .init()], referenceFrames: 5)
    let c = synthetic.configuration(.videoToVideo(VideoToVideoStrategy()), batch: 2)
    let trainer = try Trainer(c)
    #expect(trainer.flowMatching.referenceScale == ReferenceScale(space: 2))
    #expect(try trainer.loss(trainer.example(samples: [0, 1], noiseSeed: 1)).isAllFinite())
  }
}
