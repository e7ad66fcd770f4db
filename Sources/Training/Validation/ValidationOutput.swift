import Generation
import Tracking

/// A file that a validation has made.
public struct ValidationOutput: Sendable, Equatable {
  /// Of the sample, from 0.
  public let sample: Int
  public let path: String
  public let prompt: String

  /// As trackers take it, under the same name at every step.
  ///
  /// - Throws: never for what validation writes; `Issue` for other kinds of files.
  public func media() throws -> ValidationMedia {
    try ValidationMedia(name: "sample_\(sample + 1)", path: path, caption: prompt)
  }
}

/// A sample that a rank generates.
public struct ValidationWork: Sendable, Equatable {
  /// Of the sample, from 0.
  public var sample: Int
  /// Whether a file is made of it. Ranks that share one model generate the same number of samples,
  /// some for company only.
  public var isSaved: Bool

  public init(sample: Int, isSaved: Bool = true) {
    self.sample = sample
    self.isSaved = isSaved
  }

  /// What one of several ranks generates: every n-th sample.
  ///
  /// - Parameter sharesModel: the model is spread over the ranks, so that all of them must run it
  ///   equally often.
  public static func share(
    of samples: Int, rank: Int, worldSize: Int, sharesModel: Bool = false
  ) -> [ValidationWork] {
    guard samples > 0 else { return [] }
    var work = stride(from: rank, to: samples, by: worldSize).map { ValidationWork(sample: $0) }
    guard sharesModel else { return work }
    let most = (samples + worldSize - 1) / worldSize
    let company = ValidationWork(sample: work.last?.sample ?? 0, isSaved: false)
    work += Array(repeating: company, count: most - work.count)
    return work
  }
}

/// How far a validation is.
public struct ValidationProgress: Sendable {
  /// The sample's place in this rank's work, from 0, and how many there are.
  public let position: Int
  public let count: Int
  public let stage: GenerationProgress
}
