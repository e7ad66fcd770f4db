import LTX
import Testing

@testable import Generation

/// The keyframes and windows of the detailing recipe, against numbers that were worked out by hand.
@Suite struct KeyframeCanvasTests {
  private func canvas(_ frames: Int) throws -> KeyframeCanvas {
    try KeyframeCanvas(requested: frames, factors: .usual)
  }

  @Test(arguments: [
    // 40 frames after the first one: 8 more fill segments of 24, 24 more segments of 32.
    (41, 49, [24, 48]), (33, 33, [32]), (25, 25, [24]), (97, 97, [32, 64, 96]), (9, 25, [24]),
  ])
  func aVideoIsPaddedToWholeSegments(requested: Int, frames: Int, keyframes: [Int]) throws {
    let canvas = try canvas(requested)
    #expect(canvas.frames == frames && canvas.keyframes == keyframes)
  }

  @Test func windowsBeginASegmentBeforeTheirPart() throws {
    var canvas = try canvas(41)
    let first = canvas.double(windows: 2, factors: .usual)
    #expect(
      first == [
        .init(first: 0, last: 48, known: [48], generated: [24], skipped: 0),
        .init(first: 0, last: 96, known: [48, 96], generated: [24, 72], skipped: 7),
      ])
    #expect(canvas.frames == 97 && canvas.keyframes == [24, 48, 72, 96])
    let second = canvas.double(windows: 4, factors: .usual)
    #expect(canvas.frames == 193 && second.count == 4)
    #expect(
      second[2]
        == .init(first: 48, last: 144, known: [48, 96, 144], generated: [72, 120], skipped: 7))
  }

  /// The parts of all windows are the canvas, without gaps.
  @Test(arguments: [9, 41, 97, 121, 257], [1, 2]) func partsAddUp(frames: Int, rounds: Int) throws {
    var canvas = try canvas(frames)
    for round in 1...rounds {
      var end = 0
      for window in canvas.double(windows: 1 << round, factors: .usual) {
        let latents = window.latents(.usual)
        #expect(latents.lowerBound + window.skipped == end)
        end = latents.upperBound
      }
      #expect(end == CompressionFactors.usual.latentFrames(canvas.frames))
    }
  }

  @Test func videosWithoutSegmentsAreRefused() {
    #expect(throws: (any Error).self) { try canvas(1) }
    let odd = CompressionFactors(time: 5, height: 32, width: 32)
    #expect(throws: (any Error).self) { try KeyframeCanvas(requested: 41, factors: odd) }
  }
}
