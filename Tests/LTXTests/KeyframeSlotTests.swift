import TestSupport
import Testing
import Torch

@testable import LTX

/// Keyframes that are generated beside a video: their tokens, positions and marks.
@Suite struct KeyframeSlotTests {
  /// 3 latent frames of 2 x 3 cells, 9 pixel frames.
  private let grid = VideoGrid(
    batch: 1, channels: 4, frames: 3, rows: 2, columns: 3, fps: 20,
    factors: CompressionFactors(time: 4, height: 16, width: 8))

  @Test func eachKeyframeIsOneMarkedPixelFrameWithoutTheCausalShift() throws {
    let sequence = try grid.sequence([.generatedKeyframes(frames: [0, 5])])
    #expect(sequence.clean.shape == [1, 30, 4] && sequence.targetCount == 18)
    #expect(sequence.start == nil)
    #expect(try sequence.clean.abs().sum().item() == 0)
    #expect(try sequence.denoiseMask.amin().item() == 1)
    let marks: [Float] = try #require(sequence.keyframesMask).array()
    #expect(
      marks == Array(repeating: 1, count: 6) + Array(repeating: 0, count: 12)
        + Array(repeating: 1, count: 12))
    // Written out: time, row and column of each token's start and end.
    var wanted: [[Float]] = [[], [], []]
    for frame in [0, 5] {
      for row in 0..<2 {
        for column in 0..<3 {
          wanted[0] += [Float(frame) / 20, Float(frame + 1) / 20]
          wanted[1] += [Float(16 * row), Float(16 * row + 16)]
          wanted[2] += [Float(8 * column), Float(8 * column + 8)]
        }
      }
    }
    let slots: [Float] = try sequence.positions.slice(2, from: 18).array()
    #expect(slots == wanted.flatMap(\.self))
  }

  @Test func onlyGeneratedSingleFramesAreMarked() throws {
    let generator = try Generator(seed: 1)
    let still = try generator.normal([1, 4, 1, 2, 3])
    let start = try generator.normal([1, 4, 2, 2, 3])
    let sequence = try grid.sequence([
      .replace(latent: still, latentFrame: 0, strength: 0.5),
      .keyframe(latent: still, frame: 4, strength: 1),
      .generatedKeyframes(frames: [2, 8], start: start),
      .reference(latent: still, scale: ReferenceScale()),
    ])
    let marks: [Float] = try #require(sequence.keyframesMask).array()
    let counts = [(6, 1), (12, 0), (6, 0), (12, 1), (6, 0)]
    #expect(marks == counts.flatMap { Array(repeating: Float($1), count: $0) })
    // Only the slots have values to mix noise into, and the known tokens are unchanged.
    let initial = try #require(sequence.start)
    #expect(initial.shape == [1, 42, 4])
    #expect(try Tensor.isEqual(initial.narrow(1, 24, 12), VideoTokens.patchify(start)))
    for range in [0..<24, 36..<42] {
      let other = try initial.narrow(1, range.lowerBound, range.count)
      #expect(try other.abs().max().item() == 0)
    }
    #expect(try Tensor.isEqual(sequence.clean.narrow(1, 18, 6), VideoTokens.patchify(still)))
    #expect(try sequence.clean.narrow(1, 24, 12).abs().sum().item() == 0)
  }

  @Test func aRefinedVideoKeepsItsStart() throws {
    let latent = try Generator(seed: 2).normal(grid.latentShape)
    let sequence = try grid.sequence([.generatedKeyframes(frames: [1])], start: latent)
    let initial = try #require(sequence.start)
    #expect(try Tensor.isEqual(initial.narrow(1, 0, 18), VideoTokens.patchify(latent)))
    #expect(try initial.narrow(1, 18, 6).abs().sum().item() == 0)
  }

  @Test(arguments: [[], [3, 3], [5, 2], [-1], [0, 9]])
  func framesOutsideOfTheVideoOrOutOfOrderAreRefused(frames: [Int]) {
    let text = message { _ = try grid.sequence([.generatedKeyframes(frames: frames)]) }
    #expect(text.contains("generated keyframes: must be at increasing pixel frames from 0 to 8"))
  }

  @Test func startsOfAnotherSizeAndAudioAreRefused() throws {
    let start = try Tensor.zeros([1, 4, 2, 2, 3])
    let text = message {
      _ = try grid.sequence([.generatedKeyframes(frames: [1], start: start)])
    }
    #expect(text.contains("start of generated keyframes"), "\(text)")
    let audio = AudioGrid(batch: 1, channels: 2, bins: 16, frames: 4)
    #expect(
      message { _ = try audio.sequence([.generatedKeyframes(frames: [1])]) }.contains(
        "is a keyframe, which audio can't have"))
  }
}
