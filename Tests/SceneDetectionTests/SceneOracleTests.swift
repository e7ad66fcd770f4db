import Foundation
import MediaTestSupport
import Testing

@testable import Media
@testable import SceneDetection

/// Compares with PyPI's scenedetect; Tests/Oracles/scenes.py writes the fixture.
@Suite struct SceneOracleTests {
  struct Fixture: Decodable {
    struct Clip: Decodable {
      let width: Int
      let height: Int
      let lengths: [Int]
      let threshold: Double
      let minimum: Int
      let scores: [Double]
      let cuts: [Int]
    }
    struct Merge: Decodable {
      let minimum: Int
      let above: [Int]
      let count: Int
      let cuts: [Int]
    }
    let clips: [Clip]
    let merges: [Merge]
    let hsv: [Int]
  }

  let fixture: Fixture

  init() throws {
    let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent()
      .appendingPathComponent("Fixtures/scenes.json")
    fixture = try JSONDecoder().decode(Fixture.self, from: Data(contentsOf: path))
  }

  /// The same image as `frame` in the oracle's script.
  func frame(_ width: Int, _ height: Int, time: Int, scene: Int) -> RGBFrame {
    var bytes = [UInt8](repeating: 0, count: 3 * width * height)
    bytes.withUnsafeMutableBufferPointer { bytes in
      var i = 0
      for y in 0..<UInt32(height) {
        for x in 0..<UInt32(width) {
          for c in 0..<3 {
            let seed = UInt32(truncatingIfNeeded: time * 15_485_863 + c * 32_452_843)
            var noise = x &* 7919 &+ y &* 104729 &+ seed
            noise = ((noise ^ (noise >> 13)) &* 2_654_435_761) >> 27
            let base = UInt32((scene * (37 + 29 * c) + 60 * c) & 255)
            let ramp = (x &* UInt32(scene + 1 + c) &+ y &* UInt32(3 + c) &+ UInt32(2 * time)) >> 2
            bytes[i] = UInt8(truncatingIfNeeded: base &+ ramp &+ noise)
            i += 1
          }
        }
      }
    }
    return RGBFrame(bytes: bytes, width: width, height: height, index: time)
  }

  @Test func scoresAndCutsAreScenedetects() throws {
    #expect(fixture.clips.count == 4)
    for clip in fixture.clips {
      var detector = ContentDetector(threshold: clip.threshold, minimumSceneLength: clip.minimum)
      let shrinker = FrameShrinker(width: clip.width, height: clip.height)
      var scores: [Double] = []
      var cuts: [Int] = []
      for (scene, length) in clip.lengths.enumerated() {
        for _ in 0..<length {
          let image = frame(clip.width, clip.height, time: scores.count, scene: scene)
          cuts += detector.process(shrinker.shrink(image))
          scores.append(detector.lastScore)
        }
      }
      // The same integers are added and divided in the same order, so every bit must be equal.
      #expect(scores == clip.scores, "\(clip.width)x\(clip.height)")
      #expect(cuts == clip.cuts)
    }
  }

  @Test func closeCutsAreMergedAsByScenedetect() {
    #expect(fixture.merges.count == 16)
    for merge in fixture.merges {
      var merger = CutMerger(minimumLength: merge.minimum)
      let above = Set(merge.above)
      let cuts = (0..<merge.count).compactMap {
        merger.process(frame: $0, isAbove: above.contains($0))
      }
      #expect(cuts == merge.cuts, "minimum \(merge.minimum), above \(merge.above)")
    }
  }

  /// All colors with every fifth value of red, compared by a weighted sum.
  @Test func hueSaturationAndValueAreOpenCVs() {
    var sums = [0, 0, 0]
    var plane = [UInt8](repeating: 0, count: 3 * 65536)
    for red in stride(from: 0, to: 256, by: 5) {
      plane.withUnsafeMutableBufferPointer { plane in
        for i in 0..<65536 {
          plane[3 * i] = UInt8(red)
          plane[3 * i + 1] = UInt8(i >> 8)
          plane[3 * i + 2] = UInt8(i & 255)
        }
      }
      let planes = HSVPlanes(rgb: plane)
      for (c, plane) in [planes.hue, planes.saturation, planes.value].enumerated() {
        plane.withUnsafeBufferPointer { plane in
          for i in 0..<65536 { sums[c] &+= Int(plane[i]) &* ((red * 65536 + i) % 65521 + 1) }
        }
      }
    }
    #expect(sums == fixture.hsv)
  }
}
