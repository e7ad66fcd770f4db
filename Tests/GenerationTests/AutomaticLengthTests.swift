import Foundation
import LTX
import Support
import Testing

@testable import Generation

private func message(of body: () throws -> Void) -> String {
  do { try body() } catch { return "\(error)" }
  return "(nothing was thrown)"
}

/// Lengths that the model chooses, and keyframes that it generates beside the video.
@Suite struct AutomaticLengthTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  private func problem(_ change: (inout GenerationRequest) -> Void, _ output: String = "out.mp4")
    throws -> String
  {
    var request = scratch.request()
    change(&request)
    return message {
      _ = try GenerationPlan(request, models: scratch.models(), output: scratch.path(output))
    }
  }

  /// 8k + 1 frames in the range; the written-out rule of ltx-pipelines.
  @Test(arguments: [
    (0.5, 24.0, 1.0, 20.0, 25), (2.0, 24, 1, 20, 41), (100, 24, 1, 20, 473),
    (3.04, 25, 1, 20, 73), (0.1, 24, 1, 1, 17),
  ])
  func predictionsBecomeLengthsThatTheModelHas(
    seconds: Double, rate: Double, min: Double, max: Double, frames: Int
  ) {
    let range = AutomaticDuration(minSeconds: min, maxSeconds: max)
    #expect(range.frames(seconds: seconds, frameRate: rate, factors: .usual) == frames)
  }

  @Test func rangesThatNoVideoHasAreRefused() throws {
    for (min, max) in [(0, 1), (-1, 2), (3, 2), (1, 1e9), (.nan, 2), (1, .nan), (1, .infinity)] {
      let text = try problem {
        $0.frames = nil
        $0.duration = AutomaticDuration(minSeconds: min, maxSeconds: max)
      }
      #expect(text.hasPrefix("duration: must be a range of seconds"), "\(text)")
    }
    let both = try problem { $0.duration = AutomaticDuration(minSeconds: 1, maxSeconds: 2) }
    #expect(both.hasPrefix("duration: can't be combined with a number of frames"), "\(both)")
  }

  @Test func modelsWithoutADurationHeadAndImagesAreRefused() throws {
    func automatic(_ request: inout GenerationRequest) {
      request.frames = nil
      request.duration = AutomaticDuration(minSeconds: 1, maxSeconds: 2)
    }
    let text = try problem(automatic)
    #expect(text.contains("config.duration_head: is missing"), "\(text)")
    #expect(try problem(automatic, "out.png").hasPrefix("duration: an image has no length"))
  }

  @Test func keyframesAreEvenlySpacedWithoutTheEnds() throws {
    #expect(try GeneratedKeyframes.count(0).indices(of: 9) == [])
    #expect(try GeneratedKeyframes.count(1).indices(of: 9) == [4])
    #expect(try GeneratedKeyframes.count(3).indices(of: 121) == [30, 60, 90])
    // Halves are rounded to even: 2.5, 5, 7.5.
    #expect(try GeneratedKeyframes.count(3).indices(of: 11) == [2, 5, 8])
    #expect(try GeneratedKeyframes.frames([0, 7, 8]).indices(of: 9) == [0, 7, 8])
    for wrong in [
      GeneratedKeyframes.count(-1), .count(8), .count(5000), .frames([9]), .frames([3, 3]),
      .frames([-1]),
    ] {
      #expect(message { _ = try wrong.indices(of: 9) }.hasPrefix("generatedKeyframes: must"))
    }
  }

  @Test func modelsThatWereNotTrainedForKeyframesAreRefused() throws {
    let text = try problem { $0.generatedKeyframes = .count(1) }
    #expect(
      text.contains("was not trained to generate keyframes")
        && text.hasPrefix("generatedKeyframes: "), "\(text)")
    let image = try problem({ $0.generatedKeyframes = .frames([1]) }, "out.png")
    #expect(image.hasPrefix("generatedKeyframes: the result has no generated video"), "\(image)")
  }
}
