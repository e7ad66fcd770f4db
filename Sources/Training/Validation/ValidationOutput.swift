import Generation
import Support
import Tracking

/// A file that a validation has written.
public struct ValidationOutput: Sendable, Equatable {
  /// The index of the sample, from 0.
  public let sample: Int
  public let path: String
  public let prompt: String

  /// The file for trackers, under the same name at every step.
  ///
  /// - Throws: `Issue` for types of files that validation does not write.
  public func media() throws -> ValidationMedia {
    try ValidationMedia(name: "sample_\(sample + 1)", path: path, caption: prompt)
  }
}

/// A sample that a rank generates.
public struct ValidationWork: Sendable, Equatable {
  /// The index of the sample, from 0.
  public var sample: Int
  /// Whether its file is saved. Ranks that share one model generate the same number of samples, so
  /// some results are discarded.
  public var isSaved: Bool

  public init(sample: Int, isSaved: Bool = true) {
    self.sample = sample
    self.isSaved = isSaved
  }

  /// The work of one of several ranks: every n-th sample.
  ///
  /// - Parameter sharesModel: whether the model is sharded over the ranks, so that all of them must
  ///   run it equally often.
  public static func share(
    of samples: Int, _ share: WorkShare, sharesModel: Bool = false
  ) -> [ValidationWork] {
    guard samples > 0 else { return [] }
    var work = share.items(of: samples).map { ValidationWork(sample: $0) }
    guard sharesModel else { return work }
    let company = ValidationWork(sample: work.last?.sample ?? 0, isSaved: false)
    work += Array(repeating: company, count: share.largest(of: samples) - work.count)
    return work
  }
}

/// The progress of a validation.
public struct ValidationProgress: Sendable {
  /// The sample's position in this rank's work, from 0, and the number of samples.
  public let position: Int
  public let count: Int
  public let stage: GenerationProgress
}
