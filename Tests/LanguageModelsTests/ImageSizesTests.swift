import Support
import Testing

@testable import LanguageModels

@Suite struct ImageSizesTests {
  private let sizes = ImageSizes(factor: 28, bounds: 3136...12_845_056)

  @Test(arguments: [
    // Nearest multiples, halves to even.
    (720, 1280, 728, 1288), (42, 70, 56, 56), (20, 400, 28, 392),
    // Below the minimum: larger, with about the same ratio.
    (10, 10, 56, 56), (14, 980, 28, 476),
  ])
  func sidesAreMultiplesOfTheFactor(
    height: Int, width: Int, expectedHeight: Int, expectedWidth: Int
  ) throws {
    let size = try sizes.size(height: height, width: width)
    #expect(size.height == expectedHeight && size.width == expectedWidth)
    #expect(sizes.bounds.contains(size.height * size.width))
  }

  @Test func largeImagesAreShrunk() throws {
    let bounded = ImageSizes(factor: 32, bounds: 1024...256 * 1024)
    let size = try bounded.size(height: 2160, width: 3840)
    #expect(size.height == 384 && size.width == 672)
    // A side never vanishes.
    let strip = try ImageSizes(factor: 32, bounds: 1024...4096).size(height: 40, width: 8000)
    #expect(strip.height == 32)
  }

  @Test func imagesThatAreTooLongAreRefused() {
    #expect(throws: Support.Issue.self) { try sizes.size(height: 10, width: 2001) }
    #expect(throws: Support.Issue.self) { try sizes.size(height: 0, width: 5) }
    #expect(throws: Never.self) { try sizes.size(height: 10, width: 2000) }
  }
}

@Suite struct FrameSamplingTests {
  @Test(arguments: [
    // Two per second, from the first frame on; the last frame is not among them.
    (50, 10.0, 2.0, [0, 5, 10, 15, 20, 25, 30, 35, 40, 45]),
    // At least four.
    (9, 25.0, 2.0, [0, 2, 4, 6]),
    // An odd number is rounded down.
    (7, 7.0, 5.0, [0, 1, 3, 5]),
    // Not more than there are.
    (6, 2.0, 30.0, [0, 1, 2, 3, 4, 5]), (3, 25.0, 2.0, [0, 1]), (2, 25.0, 2.0, [0, 1]),
    (1, 25.0, 2.0, [0, 0]),
  ])
  func framesAreSpreadEvenly(count: Int, rate: Double, fps: Double, expected: [Int]) throws {
    #expect(try FrameSampling.indices(count: count, rate: rate, fps: fps) == expected)
  }

  @Test func longClipsAreLimited() throws {
    let indices = try FrameSampling.indices(count: 100_000, rate: 25, fps: 2)
    #expect(indices.count == FrameSampling.maxFrames && indices.allSatisfy { $0 < 100_000 })
  }

  @Test func impossibleClipsAreRefused() {
    for (count, rate, fps) in [(0, 25.0, 2.0), (5, 0, 2), (5, .nan, 2), (5, 25, 0)] {
      #expect(throws: Support.Issue.self) {
        try FrameSampling.indices(count: count, rate: rate, fps: fps)
      }
    }
  }
}
