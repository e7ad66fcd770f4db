import Media

/// How a reference video is made of a clip.
public enum ReferenceKind: Equatable, Sendable {
  case filter(FrameFilter)
  case command(ClipCommand)

  /// What is kept of it to tell whether a reference is still the one that is wanted. The numbers
  /// are versions, to be raised when the same options give other frames.
  var signature: String {
    switch self {
    case .filter(.edges(let canny)): "canny 1, low \(canny.low), high \(canny.high)"
    case .filter(.blur(let blur)): "blur 1, sigma \(blur.sigma)"
    case .filter(.downscale(let factor)): "downscale 1, factor \(factor)"
    case .filter(.gray): "grey 1"
    case .command(let command): "command 1, \(command.words)"
    }
  }
}

/// What `ltx reference` is asked to do.
public struct ReferenceOptions: Sendable {
  /// The dataset file, or a folder of media.
  public var dataset: String
  public var kind: ReferenceKind
  /// What media paths are relative to; nil: the dataset's folder.
  public var mediaFolder: String?
  /// The column of the media files; nil to find it by its name.
  public var videoColumn: String?
  /// Where the dataset with its new column goes; nil: back to its place.
  public var outputDataset: String?
  /// Where references go; nil: beside their clips.
  public var outputFolder: String?
  /// Stands between a clip's name and the extension in a reference's name.
  public var suffix = MediaFolder.referenceSuffix
  /// Whether references are made anew in any case, and files of other origin replaced.
  public var overwrite = false

  public init(dataset: String, kind: ReferenceKind) {
    self.dataset = dataset
    self.kind = kind
  }
}
