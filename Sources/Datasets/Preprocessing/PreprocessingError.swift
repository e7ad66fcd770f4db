/// What keeps a dataset from being preprocessed: which file, where in it, what is wrong, what to
/// do.
public struct PreprocessingError: Error, Equatable, Sendable, CustomStringConvertible {
  public enum Kind: Equatable, Sendable {
    /// A value that the caller gave and that can't be used.
    case option
    /// The dataset file: its format, its columns, its rows.
    case dataset
    /// The model or the text encoder.
    case model
    /// Not one of the clips can be used.
    case media
    /// The cache can't be written.
    case writing
  }

  public let kind: Kind
  /// The file as the caller named it; empty for an option.
  public let file: String
  /// The line in the file, from 1.
  public let line: Int?
  /// One clause or several, without the closing stop.
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
