import Media

/// A row, or another part of a dataset file, that can't be used.
public struct RowProblem: Error, Equatable, Sendable {
  public let line: Int?
  /// The name of the row's sample, if known.
  public let sample: String?
  /// The problem and what to do, without the final period.
  public let problem: String

  init(line: Int?, sample: String? = nil, _ problem: String) {
    self.line = line
    self.sample = sample
    self.problem = problem
  }
}

/// A problem of the input or output of preprocessing, with the file and the line.
public struct PreprocessingError: Error, Equatable, Sendable, CustomStringConvertible {
  public enum Kind: Equatable, Sendable {
    /// The dataset file: its format, its columns, its rows.
    case dataset
    /// The model or the text encoder.
    case model
    /// A clip, or a file made from it.
    case media
    /// Output that can't be written.
    case writing
  }

  public let kind: Kind
  /// The file's path as given by the caller.
  public let file: String
  /// The line in the file, from 1.
  public let line: Int?
  /// The problem and what to do, without the final period.
  public let problem: String

  public init(_ kind: Kind, file: String = "", line: Int? = nil, _ problem: String) {
    self.kind = kind
    self.file = file
    self.line = line
    self.problem = problem
  }

  /// `dataset.csv:3: the caption is missing; …`
  public var description: String {
    let place = line.map { "\(file):\($0)" } ?? file
    return place.isEmpty ? problem : "\(place): \(problem)"
  }
}

/// The error that no row of a dataset can be used.
public struct NoUsableSamples: Error, Sendable, CustomStringConvertible {
  public let problems: [PreprocessingReport.Problem]

  public var description: String {
    (["none of the rows can be used"] + capped(problems.map { "  \($0)" }) { "  and \($0) more" })
      .joined(separator: "\n")
  }
}
