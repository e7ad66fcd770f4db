import DemoData
import DemoJudges
import Foundation
import Testing

@Suite struct JudgeTests {
  private static let clipCount = 80

  /// Color, shape, size, direction, register and contour of drawn clips, and the styles' values.
  @Test(arguments: DemoScene.Style.allCases)
  func drawnClipsAreRecognized(style: DemoScene.Style) throws {
    let world = DemoWorld(seed: 11, style: style)
    var score = Score()
    var (sketch, snow): ([Double], [Double]) = ([], [])
    for scene in world.scenes(0..<Self.clipCount) {
      let verdict = VideoVerdict(try Drawing.frames(scene))
      score.add(verdict, scene)
      score.add(AudioVerdict(channels: scene.audio(), sampleRate: DemoScene.sampleRate), scene)
      sketch.append(verdict.sketch)
      snow.append(verdict.snow)
    }
    #expect(score.video >= 0.98, "\(score)")
    #expect(score.audio >= 0.98, "\(score)")
    let ownSketch = style == .sketch ? 0.9...1 : -0.3...0.4
    #expect(sketch.allSatisfy { ownSketch.contains($0) }, "\(sketch)")
    let meanSketch = sketch.reduce(0, +) / Double(sketch.count)
    #expect(abs(meanSketch - (style == .sketch ? 1 : 0)) < 0.1, "\(meanSketch)")
    let ownSnow = style == .snow ? 0.65...1.35 : 0...0.1
    #expect(snow.allSatisfy { ownSnow.contains($0) }, "\(snow)")
    if style == .snow {
      let mean = snow.reduce(0, +) / Double(snow.count)
      #expect(abs(mean - 1) < 0.1, "\(mean)")
    }
  }

  /// Between a plain clip and the same clip in a style, the value rises with the share.
  @Test(arguments: [DemoScene.Style.sketch, .snow])
  func valuesOfStylesAreMonotone(style: DemoScene.Style) throws {
    var sums = [0.0, 0, 0, 0, 0]
    for index in 0..<4 {
      let plain = try Drawing.frames(DemoWorld(seed: 15).scene(index))
      let styled = try Drawing.frames(DemoWorld(seed: 15, style: style).scene(index))
      for share in sums.indices {
        let mixed = zip(plain.bytes, styled.bytes).map {
          UInt8((Int($0) * (4 - share) + Int($1) * share) / 4)
        }
        let frames = try #require(
          DecodedFrames(bytes: mixed, count: plain.count, width: 128, height: 128))
        sums[share] += VideoVerdict(frames).amount(of: style)
      }
    }
    #expect(zip(sums, sums.dropFirst()).allSatisfy { $0 < $1 }, "\(sums)")
  }

  /// A blur that takes a decoder's place.
  @Test(arguments: DemoScene.Style.allCases)
  func blurredClipsAreRecognized(style: DemoScene.Style) throws {
    let world = DemoWorld(seed: 12, style: style, part: .heldOut)
    var score = Score()
    for scene in world.scenes(0..<20) {
      score.add(VideoVerdict(try Drawing.frames(scene, blur: 1.2)), scene)
    }
    #expect(score.video >= 0.95, "\(score)")
  }

  @Test(arguments: DemoScene.Style.allCases)
  func noisyClipsAreRecognized(style: DemoScene.Style) throws {
    let world = DemoWorld(seed: 14, style: style)
    var score = Score()
    for scene in world.scenes(0..<6) {
      score.add(VideoVerdict(try Drawing.frames(scene, noise: 8)), scene)
    }
    #expect(score.video == 1, "\(score)")
  }

  @Test func nothingIsFoundInAnEmptyClip() throws {
    let gray = try #require(
      DecodedFrames(
        bytes: [UInt8](repeating: 90, count: 3 * 5 * 64 * 64), count: 5, width: 64, height: 64))
    let verdict = VideoVerdict(gray)
    #expect(verdict.color == nil && verdict.shape == nil && verdict.direction == nil)
    #expect(verdict.sketch < 0.05 && verdict.snow < 0.05)
    let silence = AudioVerdict(
      channels: [[Float](repeating: 0, count: 16_000)], sampleRate: 16_000)
    #expect(silence.register == nil && silence.contour == nil)
    #expect(AudioVerdict(channels: [], sampleRate: 16_000).register == nil)
    #expect(DecodedFrames(bytes: [1, 2, 3], count: 1, width: 64, height: 64) == nil)
  }
}
