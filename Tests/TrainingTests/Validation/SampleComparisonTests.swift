import Foundation
import Generation
import LTX
import TestSupport
import Testing

@testable import Training

/// Samples that differ from the training data. The clips of the cache have 64x64 pixels and 17
/// frames at 25 frames per second.
@Suite struct SampleComparisonTests {
  private func comparison(
    _ strategy: TrainingStrategy, _ conditions: [Condition<MediaFile>], given: [String] = [],
    dims: VideoDimensions = .init(width: 64, height: 64, frames: 17), rate: Double = 25,
    referenceFrames: Int? = nil
  ) throws -> SampleComparison {
    let synthetic = try SyntheticRun([.init(), .init()], referenceFrames: referenceFrames)
    var c = synthetic.configuration(strategy)
    c.validation.samples = [ValidationSample(prompt: "a", conditions: conditions)]
    (c.validation.videoDims, c.validation.frameRate) = (dims, rate)
    for key in given {
      c.source.places["validation.samples[0].conditions[0].\(key)"] = .text(line: 1, column: 1)
    }
    let dataset = try PrecomputedDataset(
      root: c.data.preprocessedDataRoot, strategies: strategy.modalities)
    return try SampleComparison(c, dataset)
  }

  private func reference(_ space: Int = 1, _ time: Int = 1) -> Condition<MediaFile> {
    .reference(path: "r.mp4", scale: ReferenceScale(space: space, time: time), isShown: true)
  }

  private let trained = Strategies.flexible([Strategies.reference])
  private let first = "validation.samples[0].conditions[0]"

  /// The cache's references have half the size, and here half the frame rate.
  @Test func aScaleThatIsNotGivenIsTheDatasets() throws {
    let dims = VideoDimensions(width: 128, height: 64, frames: 17)
    let taken = try comparison(trained, [reference()], dims: dims, referenceFrames: 2)
      .applyingReferenceScales()
    #expect(taken.configuration.validation.samples[0].conditions == [reference(2, 2)])
    #expect(
      taken.notes == [
        "\(first).downscale_factor: is not set, so the scale of the dataset's references is used (2)",
        "\(first).temporal_scale_factor: is not set, so the scale of the dataset's references is used (2)",
      ])
    let equal = try comparison(trained, [reference(2)], given: ["downscale_factor"], dims: dims)
    #expect(equal.applyingReferenceScales().notes.isEmpty && equal.notes.isEmpty)
  }

  @Test func aScaleThatIsGivenIsComparedWithTheDatasets() throws {
    let one = try comparison(
      trained, [reference()], given: ["downscale_factor"],
      dims: .init(width: 128, height: 128, frames: 17))
    #expect(
      one.applyingReferenceScales().configuration.validation.samples[0].conditions == [reference()])
    #expect(one.notes.count == 1)
    #expect(one.notes[0].hasPrefix("\(first).downscale_factor: "), "\(one.notes)")
    #expect(one.notes[0].contains("(got 1, training uses 2)"))
    // A sample whose size can't be divided by the dataset's scale keeps its own.
    let odd = try comparison(trained, [reference()], dims: .init(width: 96, height: 64, frames: 17))
    #expect(odd.applyingReferenceScales().notes.isEmpty && odd.notes.count == 1)
    let late = try comparison(trained, [reference(2, 3)], given: ["downscale_factor"])
    #expect(
      late.notes.count == 1 && late.notes[0].contains("temporal_scale_factor: "), "\(late.notes)")
  }

  @Test func conditionsOfOneSideAreNoted() throws {
    let none = try comparison(trained, []).notes
    #expect(none.count == 1 && none[0].contains("no video reference"), "\(none)")
    let extra = try comparison(Strategies.flexible([]), [reference()]).notes
    #expect(extra.count == 1 && extra[0].contains("training has no video reference"), "\(extra)")
    let given = try comparison(Strategies.flexible([], [], frozenAudio: true), []).notes
    #expect(given.count == 1 && given[0].contains("audio_to_video"), "\(given)")
    #expect(
      try comparison(
        Strategies.flexible([], [], frozenAudio: true), [.audio(path: "a.wav")]
      ).notes
        .isEmpty)
    #expect(try comparison(Strategies.flexible([], []), []).notes.isEmpty)
  }

  @Test func otherParameters() throws {
    let strategy = Strategies.flexible(
      [.prefix(latentFrames: 2, probability: 1)],
      [.suffix(latentFrames: 10, probability: 1)])
    let notes = try comparison(
      strategy,
      [
        .prefix(path: "v.mp4", frames: 17),
        .audioSuffix(path: "a.wav", seconds: 2),
      ]
    ).notes
    #expect(notes.count == 2, "\(notes)")
    #expect(
      notes[0].hasPrefix("\(first).num_frames: ") && notes[0].contains("(got 17, training uses 9)"))
    #expect(
      notes[1].contains("conditions[1].duration: ") && notes[1].contains("training uses 0.4)"),
      "\(notes)")
    #expect(
      try comparison(
        strategy,
        [
          .prefix(path: "v.mp4", frames: 9),
          .audioSuffix(path: "a.wav", seconds: 0.4),
        ]
      ).notes.isEmpty)
    let crop = Strategies.flexible([
      .crop(PixelRegion(top: 0, left: 0, bottom: 64, right: 32), probability: 1)
    ])
    let moved = try comparison(
      crop,
      [.crop(path: "v.mp4", region: .init(top: 0, left: 32, bottom: 64, right: 64))]
    ).notes
    #expect(
      moved.count == 1 && moved[0].contains("[0, 32, 64, 64], training uses [0, 0, 64, 32]"),
      "\(moved)")
  }

  @Test func sizesAndRatesThatAreFarOff() throws {
    let far = try comparison(
      Strategies.flexible([]), [], dims: .init(width: 512, height: 512, frames: 17), rate: 60
    ).notes
    #expect(far.count == 2, "\(far)")
    #expect(
      far[0].contains("validation.video_dims: ")
        && far[0].contains("(got 512x512x17, training uses 64x64x17)"))
    #expect(
      far[1].contains("validation.frame_rate: ")
        && far[1].contains("(got 60.0, training uses 25.0)"))
    #expect(
      try comparison(
        Strategies.flexible([]), [], dims: .init(width: 128, height: 64, frames: 33), rate: 24
      ).notes.isEmpty)
  }
}
