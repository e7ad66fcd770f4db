import Support
import Testing
import Torch

@testable import LanguageModels

/// Single rules, and prompts that don't match their media. The cases in
/// Tests/Fixtures/caption-processor compare positions with those of transformers.
@Suite struct QwenOmniPositionsTests {
  private func positions(
    _ name: String, _ ids: (QwenOmniTokens) -> [Int], images: [[Int]] = [], videos: [[Int]] = [],
    seconds: [Float] = [], audioFrames: [Int] = [], isInterleaved: Bool = false, padding: Int = 0
  ) throws -> (rows: [[Float]], delta: Double) {
    let c = try QwenOmniConfiguration(folder: DecoderTests.folder(name))
    let tokens = ids(c.tokens)
    let mask = Array(repeating: 0, count: padding) + Array(repeating: 1, count: tokens.count)
    let (positions, delta) = try QwenOmniPositions.positions(
      ids: [Array(repeating: c.tokens.pad, count: padding) + tokens], mask: [mask],
      imageGrids: images, videoGrids: videos, secondsPerGrid: seconds, audioFrames: audioFrames,
      isInterleaved: isInterleaved, configuration: c)
    return (try (0..<3).map { try positions.select(0, $0).array(of: Float.self) }, try delta.item())
  }

  @Test func textCountsUpwardBehindPadding() throws {
    let (rows, delta) = try positions("qwen25_omni", { _ in [1, 2, 3] }, padding: 2)
    #expect(rows == Array(repeating: [0, 0, 0, 1, 2], count: 3))
    #expect(delta == -2)
  }

  /// Twenty frames of a spectrogram are ten tokens in Qwen2.5-Omni's fixture before pairs are
  /// joined.
  @Test func audioTakesOnePositionPerToken() throws {
    let (rows, delta) = try positions(
      "qwen25_omni",
      { [$0.audioStart] + Array(repeating: $0.audio, count: 5) + [$0.audioEnd, 7] },
      audioFrames: [20])
    #expect(rows[0] == [0, 1, 2, 3, 4, 5, 6, 7] && rows[2] == rows[0] && delta == 0)
  }

  @Test func imagesTakeTheirSides() throws {
    let (rows, delta) = try positions(
      "qwen3_omni", { [$0.visionStart] + Array(repeating: $0.image, count: 6) + [$0.visionEnd] },
      images: [[1, 4, 6]])
    #expect(rows[0] == [0, 1, 1, 1, 1, 1, 1, 4])
    #expect(rows[1] == [0, 1, 1, 1, 2, 2, 2, 4])
    #expect(rows[2] == [0, 1, 2, 3, 1, 2, 3, 4])
    #expect(delta == -3)
  }

  /// Times are cut to integers in Qwen2.5-Omni, and kept in Qwen3-Omni.
  @Test(arguments: [("qwen25_omni", Float(16)), ("qwen3_omni", Float(8.666667))])
  func clipsTakeTheirTime(name: String, step: Float) throws {
    let (rows, _) = try positions(
      name, { [$0.visionStart, $0.video, $0.video, $0.visionEnd] }, videos: [[2, 2, 2]],
      seconds: [Float(2.0 / 3)])
    #expect(rows[0] == [0, 1, 1 + step, 2 + step] && rows[1] == [0, 1, 1, 2 + step])
  }

  /// Both start tokens share a position in Qwen2.5-Omni, and text continues from the last token, not
  /// from the widest frame.
  @Test(arguments: [("qwen25_omni", Float(0)), ("qwen3_omni", Float(1))])
  func interleavedClipsEndWithTheirLastToken(name: String, step: Float) throws {
    let (rows, _) = try positions(
      name,
      { tokens in
        [tokens.visionStart, tokens.audioStart] + Array(repeating: tokens.video, count: 9)
          + [tokens.audio, tokens.audio, tokens.audioEnd, tokens.visionEnd, 5]
      }, videos: [[1, 2, 18]], seconds: [1], audioFrames: [name == "qwen25_omni" ? 8 : 12],
      isInterleaved: true)
    let begin = 1 + step
    #expect(rows[2][1] == step && rows[2][2] == begin && rows[2][10] == begin + 8)
    #expect(rows[0][11] == begin && rows[0][12] == begin + 1)
    #expect(rows[0][13] == begin + 2 && rows[0][14] == begin + 2 + step)
    #expect(rows[0][15] == begin + 3 + step)
  }

  @Test func promptsThatDoNotMatchTheirMediaAreRefused() throws {
    let image: (QwenOmniTokens) -> [Int] = { [$0.visionStart, $0.image, $0.visionEnd] }
    #expect(throws: Support.Issue.self) { try positions("qwen3_omni", image) }
    #expect(throws: Support.Issue.self) { try positions("qwen3_omni", image, images: [[1, 4, 4]]) }
    #expect(throws: Support.Issue.self) {
      try positions("qwen3_omni", image, images: [[1, 2, 2], [1, 2, 2]])
    }
    #expect(throws: Support.Issue.self) {
      try positions("qwen3_omni", { _ in [] })
    }
    #expect(throws: Support.Issue.self) {
      try positions("qwen3_omni", { _ in [1] }, videos: [[1, 2, 2]])
    }
    for count in 0..<4 {
      #expect(throws: Support.Issue.self) {
        try positions(
          "qwen3_omni",
          {
            [$0.visionStart, $0.audioStart] + Array([$0.video, $0.audio, $0.audioEnd][..<count])
          }, videos: [[1, 2, 2]], seconds: [1], audioFrames: [8], isInterleaved: true)
      }
    }
  }
}
