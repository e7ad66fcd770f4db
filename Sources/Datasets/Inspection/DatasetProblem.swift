/// Something that is wrong with a cached dataset.
public struct DatasetProblem: Error, Codable, Equatable, Sendable, CustomStringConvertible {
  public enum Kind: String, Codable, Sendable, CaseIterable {
    /// A file that can't be read: cut off, damaged, in no known format.
    case unreadable
    /// Tensors that are missing, or have another type or shape than they should have.
    case tensors
    /// NaN or infinity, or nothing but zeros.
    case numbers
    /// Made from a clip with damaged frames.
    case damage
    /// A file that differs from the others of its folder.
    case inconsistent
    /// A sample of which a file is missing.
    case incomplete
    /// Files of one sample that don't fit each other.
    case mismatch
    /// Audio latents of silence.
    case silence
    /// What a run that was killed has left behind.
    case leftover
    /// A row of the dataset that can't be used.
    case row
    /// A row of the dataset without cached files.
    case notCached
    /// Cached files that no row of the dataset names.
    case notListed
    /// A media file that is gone, or not the one that was cached.
    case source
    /// A caption that is empty, too long, or not the one that was cached.
    case caption
    /// How often a sample is repeated: the index is damaged, or the dataset says something else.
    case repeats
    /// Made with another model, or in another way than the rest.
    case fingerprint
  }

  public let kind: Kind
  /// The cached file, relative to the cache, or the media file; nil where the problem is a row's.
  public let file: String?
  /// The line of the dataset file.
  public let line: Int?
  /// The sample's name.
  public let sample: String?
  /// What is wrong and, where it is not plain, what to do.
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

/// What a check has found.
public struct DatasetReport: Codable, Sendable {
  public let cache: String
  public let dataset: String?
  public let samples: Int
  public let files: Int
  public let problems: [DatasetProblem]
  /// What could not be checked, and why.
  public let notes: [String]
}
