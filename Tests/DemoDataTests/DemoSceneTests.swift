import DemoData
import Foundation
import Support
import Testing

@Suite struct DemoSceneTests {
  private let scene = DemoScene(
    shape: .star, color: .yellow, size: .large, direction: .up, background: .navy, seed: 3)

  /// Pixels depend only on the parameters: the checksums are the same on every machine.
  @Test(
    arguments: zip(
      DemoScene.Style.allCases, ["d47996698ef7ac51", "b1980edc4d378a97", "7b847c6323fc5fa0"]))
  func pixelsAreTheSameEverywhere(style: DemoScene.Style, checksum: String) {
    var scene = scene
    scene.style = style
    let bytes = scene.pixels(frame: 7)
    #expect(bytes.count == 3 * 128 * 128)
    #expect(bytes == scene.pixels(frame: 7))
    #expect(bytes != scene.pixels(frame: 8))
    #expect(Self.checksum(bytes) == checksum)
  }

  private static func checksum(_ bytes: [UInt8]) -> String {
    String(
      bytes.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 },
      radix: 16)
  }

  @Test func framesOfOtherSizesShowTheSame() {
    let wide = scene.pixels(frame: 12, width: 96, height: 64)
    #expect(wide.count == 3 * 96 * 64)
    #expect(scene.pixels(frame: 0, width: 0, height: 4).isEmpty)
    // The shape is in the middle, its color is far from the background's.
    let middle = 3 * (32 * 96 + 48)
    #expect(wide[middle] > 200 && wide[middle + 2] < 80)
    #expect(wide[0] < 60)
  }

  /// The motion fills a clip of any length.
  @Test func theClipEndsWithTheMotion() {
    let long = scene.pixels(frame: 24, of: 25)
    let short = scene.pixels(frame: 12, of: 13)
    let different = zip(long, short).count { abs(Int($0) - Int($1)) > 40 }
    #expect(different < 600)
    #expect(zip(long, scene.pixels(frame: 12, of: 25)).count { $0 != $1 } > 4000)
  }

  @Test(arguments: DemoScene.Style.allCases)
  func audioHasTwoChannelsAndIsNeverSilent(style: DemoScene.Style) {
    var scene = scene
    scene.style = style
    scene.direction = .right
    let channels = scene.audio(seconds: 1, sampleRate: 16_000)
    #expect(channels.map(\.count) == [16_000, 16_000])
    #expect(channels == scene.audio(seconds: 1, sampleRate: 16_000))
    #expect(channels.allSatisfy { $0.allSatisfy { abs($0) < 0.7 } })
    #expect(scene.audio(seconds: 0).map(\.count) == [0, 0])
    let levels = (0..<10).map { part in
      channels.map { channel in
        channel[part * 1600..<(part + 1) * 1600].reduce(0) { $0 + $1 * $1 } / 1600
      }
    }
    #expect(levels.allSatisfy { $0[0] + $0[1] > 1e-4 })
    // Louder in the middle, where the shape is fast; from the left to the right.
    #expect(levels[5][0] + levels[5][1] > 4 * (levels[0][0] + levels[0][1]))
    #expect(levels[1][0] > 2 * levels[1][1])
    #expect(levels[8][1] > 2 * levels[8][0])
  }

  @Test func pitchFollowsThePath() {
    for index in 0..<200 {
      let scene = DemoWorld(seed: 9).scene(index)
      let (start, end) = (scene.frequency(at: 0), scene.frequency(at: 1))
      let octaves = log2(end / start)
      switch scene.contour {
      case .rising: #expect(octaves > 0.45)
      case .falling: #expect(octaves < -0.45)
      case .steady: #expect(abs(octaves) < 0.06)
      }
      let middle = scene.frequency(at: 0.5)
      #expect(scene.register == .high ? middle > 560 : middle < 260)
    }
  }

  @Test func scenesAreReadAsTheyWereWritten() throws {
    for seed in [3, UInt64.max] {
      var scene = scene
      scene.seed = seed
      let read = try JSON(encoding: scene).decode(DemoScene.self)
      #expect(read == scene)
    }
  }
}
