import Support
import Testing

@testable import Tracking

@Suite struct SigmaBucketsTests {
  @Test func labelsAreTheOfficialTrainers() {
    #expect(SigmaBuckets.quarters.labels == ["0.00-0.25", "0.25-0.50", "0.50-0.75", "0.75-1.00"])
  }

  /// The expected index is `bisect_right(boundaries, sigma) - 1`, limited to the buckets.
  @Test(arguments: [
    (-1.0, 0), (0, 0), (0.2499, 0), (0.25, 1), (0.5, 2), (0.7499, 2), (0.75, 3), (1, 3), (2, 3),
  ])
  func aSigmaOnABoundaryIsOfTheUpperBucket(sigma: Double, bucket: Int) {
    #expect(SigmaBuckets.quarters.index(of: sigma) == bucket)
  }

  @Test func meansAreOverSamplesOfABucket() {
    let means = SigmaBuckets.quarters.means([(0.1, 1), (0.2, 3), (0.9, 10), (1, 20)])
    #expect(means == ["0.00-0.25": 2, "0.75-1.00": 15])
    #expect(SigmaBuckets.quarters.means([]).isEmpty)
  }

  @Test(arguments: [[], [0.5], [0, 0.5, 0.5], [1, 0], [0, .nan], [0, .infinity]] as [[Double]])
  func boundariesThatDoNotRiseAreErrors(boundaries: [Double]) {
    #expect(throws: Support.Issue.self) { try SigmaBuckets(boundaries: boundaries) }
  }

  @Test func otherBoundaries() throws {
    let buckets = try SigmaBuckets(boundaries: [0, 0.9, 1])
    #expect(buckets.labels == ["0.00-0.90", "0.90-1.00"])
    #expect(buckets.index(of: 0.89) == 0 && buckets.index(of: 0.9) == 1)
  }
}
