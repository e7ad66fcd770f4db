import LTX
import Torch

/// What a dataset is made into, and of what.
public struct PreprocessingOptions: Sendable {
  /// The dataset file: `.json`, `.jsonl` or `.csv`.
  public var dataset: String
  /// Sizes to bring clips to; each clip takes the one that suits it best.
  public var buckets: [ResolutionBucket]
  /// The model, whose video VAE, text projection and text encoder are used.
  public var models: ModelFiles
  /// Rounds the text encoder to int8.
  public var textEncoder8bit = false
  /// The columns of the dataset; nil to find them by their names.
  public var videoColumn: String?
  public var captionColumn: String?
  /// Put before each caption, with a blank between.
  public var loraTrigger: String?
  /// Where the cache goes; `.precomputed` beside the dataset if nil.
  public var outputFolder: String?
  /// Encodes everything, also what is there already and fits.
  public var overwrite = false
  /// Encodes large clips in overlapping tiles, which takes less memory.
  public var vaeTiling = false
  /// Says that sound is not wanted; this version never encodes it.
  public var skipAudio = false
  public var device = Device.cpu
  /// What the models compute in and the cache holds; the reference uses bfloat16.
  public var dtype = DType.bfloat16

  public init(dataset: String, buckets: [ResolutionBucket], models: ModelFiles) {
    self.dataset = dataset
    self.buckets = buckets
    self.models = models
  }

  /// The reference's tiles.
  var tiling: Tiling? {
    let axis = Tiling.Axis(size: 512, overlap: 128)
    return vaeTiling ? Tiling(height: axis, width: axis) : nil
  }

  func prompt(_ caption: String) -> String {
    guard let trigger = loraTrigger?.trimmingCharacters(in: .whitespacesAndNewlines), !trigger.isEmpty else {
      return caption
    }
    return "\(trigger) \(caption)"
  }
}

/// A clip that could not be cached.
public struct PreprocessingFailure: Error, Sendable, CustomStringConvertible {
  /// The dataset file, and the clip's line in it.
  public let dataset: String
  public let line: Int
  /// The file, what is wrong, what to do.
  public let problem: String

  public var description: String { "\(dataset):\(line): \(problem)" }
}

/// No clip of the dataset can be used.
public struct NoUsableClips: Error, Sendable, CustomStringConvertible {
  public let failures: [PreprocessingFailure]

  public var description: String {
    "none of the clips can be used\n" + failures.map { "  \($0)" }.joined(separator: "\n")
  }
}

/// How far preprocessing has come.
public enum PreprocessingEvent: Sendable {
  public enum Phase: Sendable { case captions, clips }

  /// The model is being loaded; `total` samples follow, the others being cached already.
  case loading(Phase, total: Int)
  case began(Phase, total: Int)
  case advanced(Phase, done: Int, total: Int)
  /// Something worth knowing that stops nothing.
  case note(String)
}

/// What became of a dataset.
public struct PreprocessingSummary: Sendable {
  public let outputFolder: String
  public let samples: Int
  public let captionsEncoded: Int
  public let clipsEncoded: Int
  /// Samples whose files were there and fit.
  public let upToDate: Int
  /// Clips that could not be cached, in the order of the dataset.
  public let failures: [PreprocessingFailure]
}
