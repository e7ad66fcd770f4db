/// A problem that a check of a cached dataset has found.
public struct DatasetProblem: Codable, Equatable, Sendable, CustomStringConvertible {
  public enum Kind: String, Codable, Sendable, CaseIterable {
    /// A file that can't be read: truncated, damaged or of an unknown format.
    case unreadable
    /// A tensor that is missing or has the wrong dtype or shape.
    case tensors
    /// NaN, infinity, or only zeros.
    case numbers
    /// A file made from a clip with damaged frames.
    case damage
    /// A file that differs from most of its kind.
    case inconsistent
    /// A sample without one of its files.
    case incomplete
    /// Files of one sample that contradict each other.
    case mismatch
    /// Audio latents of silence.
    case silence
    /// An unfinished file of a run that was killed.
    case leftover
    /// A row of the dataset that can't be used.
    case row
    /// A row of the dataset without cached files.
    case notCached
    /// Cached files without a row in the dataset.
    case notListed
    /// A media file that is missing or has changed since it was cached.
    case source
    /// A caption that is empty, too long, or has changed since it was encoded.
    case caption
    /// Repeats that differ between the dataset and the cache, or a damaged index of repeats.
    case repeats
    /// A file made with another model or other options than the rest.
    case fingerprint
  }

  public let kind: Kind
  /// The cached file, relative to the cache, or the media file; nil for a problem of a row.
  public let file: String?
  /// The line of the dataset file.
  public let line: Int?
  /// The sample's name.
  public let sample: String?
  /// The problem and, if it isn't obvious, the remedy.
  public let problem: String

  init(
    _ kind: Kind, file: String? = nil, line: Int? = nil, sample: String? = nil, _ problem: String
  ) {
    self.kind = kind
    self.file = file
    self.line = line
    self.sample = sample
    self.problem = problem
  }

  public var description: String {
    let place = [file, line.map { "line \($0)" }].compactMap { $0 }.joined(separator: ", ")
    return place.isEmpty ? problem : "\(place): \(problem)"
  }
}

extension DatasetProblem {
  /// The problem without paths in the cache, for a page that shows it beside the clip.
  var words: String {
    guard let file else { return problem }
    switch kind {
    case .incomplete, .caption, .row, .notCached, .notListed: return problem
    case .source:
      let missing = "does not exist"
      if problem.hasPrefix(missing) {
        return "the media file is missing" + problem.dropFirst(missing.count)
      }
      return problem.hasPrefix("has ") ? "the media file \(problem)" : problem
    default:
      let folder = file.prefix { $0 != "/" }
      guard let artifact = Artifacts.named(String(folder)) else { return "\(file): \(problem)" }
      return "\(artifact.noun): \(problem)"
    }
  }
}

/// The result of a check.
public struct DatasetReport: Codable, Sendable {
  public let cache: String
  public let dataset: String?
  public let samples: Int
  public let files: Int
  public let problems: [DatasetProblem]
  /// Notes on checks that were skipped, with the reason.
  public let notes: [String]
}
