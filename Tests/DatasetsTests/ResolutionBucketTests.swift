import LTX
import TestSupport
import Testing

@testable import Datasets

@Suite struct ResolutionBucketTests {
  @Test func bucketsAreReadFromText() throws {
    #expect(
      try ResolutionBucket.list("768x512x49; 64x64x9") == [
        ResolutionBucket(width: 768, height: 512, frames: 49),
        ResolutionBucket(width: 64, height: 64, frames: 9),
      ])
    for text in ["", "64x64", "64x64x9;", "64x64xx9", "64x-64x9", "0x64x9", "ax64x9", "64x64x9x1"] {
      #expect(
        message { _ = try ResolutionBucket.list(text) }.contains("is not a bucket"), "\(text)")
    }
  }

  @Test func sizesFitTheCheckpointsCompressionWhateverItIs() throws {
    let usual = CompressionFactors(time: 8, height: 32, width: 32)
    func error(_ width: Int, _ height: Int, _ frames: Int, _ factors: CompressionFactors) -> String
    {
      message {
        try ResolutionBucket(width: width, height: height, frames: frames).requireFit(factors)
      }
    }
    try ResolutionBucket(width: 96, height: 64, frames: 1).requireFit(usual)
    try ResolutionBucket(width: 16, height: 24, frames: 5).requireFit(
      CompressionFactors(time: 4, height: 8, width: 16))
    #expect(error(100, 64, 9, usual).contains("100x64x9: the width must be a multiple of 32"))
    #expect(error(64, 65, 9, usual).contains("The nearest size is 64x64"))
    #expect(
      error(64, 64, 10, usual).contains("multiple of 8, plus 1. The nearest numbers are 9 and 17"))
    #expect(
      error(64, 64, 9, CompressionFactors(time: 16, height: 32, width: 32)).contains(
        "multiple of 16"))
  }

  @Test func theNearestAspectThenTheLongestThenTheLargest() throws {
    let buckets = try ResolutionBucket.list("64x64x9;128x128x9;128x64x17;64x128x17;32x32x25")
    #expect(buckets.best(width: 1920, height: 1080, frames: 100)?.description == "128x64x17")
    #expect(buckets.best(width: 1080, height: 1920, frames: 100)?.description == "64x128x17")
    #expect(buckets.best(width: 500, height: 500, frames: 100)?.description == "32x32x25")
    #expect(buckets.best(width: 500, height: 500, frames: 24)?.description == "128x128x9")
    #expect(buckets.best(width: 1920, height: 1080, frames: 10)?.description == "128x128x9")
    #expect(buckets.best(width: 10, height: 10, frames: 8) == nil)
    // By logarithm 1 is closer to 7/4 than to 1/2, by difference it is not.
    let two = try ResolutionBucket.list("64x128x9;112x64x9")
    #expect(two.best(width: 64, height: 64)?.description == "112x64x9")
  }
}
