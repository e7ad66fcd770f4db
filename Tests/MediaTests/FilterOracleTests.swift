import Foundation
import MediaTestSupport
import Testing

@testable import Media

/// Against OpenCV; the fixtures come from Tests/Oracles/edges.py.
@Suite struct FilterOracleTests {
  struct Fixture: Decodable {
    struct Case: Decodable, CustomTestStringConvertible {
      let clip: String?
      let frame: Int?
      let picture: String?
      let low: Int
      let high: Int
      let edges: String
      let blurred: [String: Double]?

      var testDescription: String { edges }
    }
    let cases: [Case]
  }

  private static let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().path
  private static let folder = tests + "/Fixtures/edges/"
  static let fixture = Result {
    try JSONDecoder().decode(
      Fixture.self, from: Data(contentsOf: URL(fileURLWithPath: folder + "cases.json")))
  }
  static let indices = 0..<8

  private func image(_ name: String) throws -> RGBFrame {
    try #require(try VideoReader(path: Self.folder + name).next())
  }

  private func source(_ fixture: Fixture.Case) throws -> RGBFrame {
    if let name = fixture.picture { return try image(name) }
    let clip = Self.tests + "/../.deps/media/" + (try #require(fixture.clip))
    try #require(FileManager.default.fileExists(atPath: clip), "run Scripts/test-media")
    let reader = try VideoReader(path: clip, applyRotation: false, color: .upstream)
    let wanted = try #require(fixture.frame)
    while let frame = try reader.next() {
      if frame.index == wanted { return frame }
    }
    throw MediaError(.decoding, file: clip, "has no frame \(wanted)", remedy: "")
  }

  @Test func allCasesAreTested() throws {
    #expect(try Self.fixture.get().cases.indices == Self.indices)
  }

  /// Every pixel is equal.
  @Test(arguments: indices) func edgesAreOpenCVs(index: Int) throws {
    let wanted = try Self.fixture.get().cases[index]
    let frame = try source(wanted)
    let edges = CannyEdges(low: wanted.low, high: wanted.high).edges(of: frame)
    let expected = try image(wanted.edges)
    #expect((edges.width, edges.height) == (expected.width, expected.height))
    let different = zip(edges.bytes, expected.bytes).count { $0 != $1 } / 3
    #expect(different == 0, "\(different) of \(edges.width * edges.height) pixels")
    if index < 6 { #expect(expected.bytes.contains(255)) }
  }

  /// OpenCV rounds the window's weights to 1/256.
  @Test(arguments: indices.suffix(4)) func blurIsCloseToOpenCVs(index: Int) throws {
    let wanted = try Self.fixture.get().cases[index]
    let frame = try source(wanted)
    for (name, sigma) in try #require(wanted.blurred) {
      let expected = try image(name)
      let blurred = GaussianBlur(sigma: sigma).blurred(frame)
      let largest = zip(blurred.bytes, expected.bytes).map { abs(Int($0) - Int($1)) }.max() ?? 999
      #expect(largest <= 2, "\(name): \(largest)")
      #expect(psnr(blurred, expected) > 50, "\(name): \(psnr(blurred, expected)) dB")
    }
  }

  @Test func grayIsTheLumaOfVideo() {
    let bytes: [UInt8] = [255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255, 10, 20, 30, 0, 0, 0]
    let gray = RGBFrame(bytes: bytes, width: 3, height: 2, index: 7, seconds: 2).grayscale()
    #expect(gray.bytes == [76, 150, 29, 255, 18, 0].flatMap { [$0, $0, $0] })
    #expect((gray.width, gray.height, gray.index, gray.seconds) == (3, 2, 7, 2))
  }

  @Test func scalingTakesTheMeanOfAnArea() throws {
    let frame = gradient(width: 64, height: 48, scene: 1, time: 3)
    let half = try frame.resized(width: 32, height: 24)
    #expect((half.width, half.height) == (32, 24))
    for y in 0..<24 {
      for x in 0..<32 {
        for channel in 0..<3 {
          let at = { (dx: Int, dy: Int) in
            Int(frame.bytes[3 * ((2 * y + dy) * 64 + 2 * x + dx) + channel])
          }
          let mean = Double(at(0, 0) + at(1, 0) + at(0, 1) + at(1, 1)) / 4
          #expect(abs(Double(half.bytes[3 * (y * 32 + x) + channel]) - mean) <= 1)
        }
      }
    }
    #expect(try frame.resized(width: 64, height: 48) == frame)
  }
}
