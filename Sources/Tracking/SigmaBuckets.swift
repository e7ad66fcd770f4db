import Support

/// Mean losses per range of noise levels. A diffusion model's loss depends on sigma more than on
/// anything else.
///
/// The rules and labels are those of ltx-trainer's `sigma_tracker`. A sigma on a boundary belongs
/// to the range above it; one outside of all ranges belongs to the first or the last.
public struct SigmaBuckets: Sendable, Equatable {
  /// The boundaries, strictly increasing; one more than the number of buckets.
  public let boundaries: [Double]
  /// `0.00-0.25`, …
  public let labels: [String]

  /// - Throws: `Issue` if there are fewer than two boundaries, or if they are not finite or not
  ///   strictly increasing.
  public init(boundaries: [Double] = [0, 0.25, 0.5, 0.75, 1]) throws {
    guard boundaries.count >= 2, boundaries.allSatisfy(\.isFinite),
      zip(boundaries, boundaries.dropFirst()).allSatisfy({ $0 < $1 })
    else {
      throw Issue(
        "the boundaries of sigma buckets are \(boundaries)",
        suggestion: "Give two or more, each above the last.")
    }
    self.init(checked: boundaries)
  }

  /// 0 to 1 in four equal parts, as in the official trainer.
  public static let quarters = SigmaBuckets(checked: [0, 0.25, 0.5, 0.75, 1])

  private init(checked: [Double]) {
    boundaries = checked
    labels = zip(checked, checked.dropFirst()).map { "\(fixed($0, 2))-\(fixed($1, 2))" }
  }

  /// The bucket of a sigma.
  public func index(of sigma: Double) -> Int {
    let above = boundaries.dropFirst().dropLast().firstIndex { sigma < $0 } ?? boundaries.count - 1
    return above - 1
  }

  /// The mean loss of each bucket that holds a sample, by label.
  ///
  /// - Parameter samples: the sigma and the loss of each sample, from any number of batches.
  public func means(_ samples: [(sigma: Double, loss: Double)]) -> [String: Double] {
    var sums = Array(repeating: (total: 0.0, count: 0), count: labels.count)
    for sample in samples {
      let bucket = index(of: sample.sigma)
      sums[bucket].total += sample.loss
      sums[bucket].count += 1
    }
    var means: [String: Double] = [:]
    for (label, sum) in zip(labels, sums) where sum.count > 0 {
      means[label] = sum.total / Double(sum.count)
    }
    return means
  }
}
