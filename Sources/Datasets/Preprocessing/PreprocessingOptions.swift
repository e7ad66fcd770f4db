import Foundation
import LTX
import Media
import NN
import Support
import Torch

/// The options of preprocessing a dataset.
public struct PreprocessingOptions: Sendable {
  /// The processing of audio.
  public enum Audio: Sendable {
    /// Clips that have audio are encoded with it.
    case whereThereIs
    /// A clip without audio is a failure.
    case required
    /// The audio of clips is skipped; columns of audio are still read.
    case skipped
  }

  /// The dataset file, `.json`, `.jsonl` or `.csv`, or a folder of media with captions beside them.
  public var dataset: String
  /// The sizes to scale clips to; each clip gets the best fit.
  public var buckets: [ResolutionBucket]
  /// The lengths to cut audio without clips to, in seconds.
  public var audioDurations: [Double] = []
  /// The model, whose VAEs, text projection and text encoder are used.
  public var models: ModelFiles
  /// Whether the text encoder is quantized to int8.
  public var textEncoder8bit = false
  var textEncoderStorage: WeightStorage { textEncoder8bit ? .int8 : .asStored }
  /// The memory of the models.
  public var memory = MemorySettings()
  /// Columns that can't be found by their names.
  public var columns: [Role: String] = [:]
  /// The word that precedes each caption, with a space.
  public var loraTrigger: String?
  /// Whether typical opening phrases of language models are removed from captions.
  public var removesLLMPrefixes = false
  /// The folder of the cache; nil for `.precomputed` beside the dataset file or in the dataset
  /// folder.
  public var outputFolder: String?
  public var format = CacheFormat.safetensors
  /// Whether files that are up to date are encoded again.
  public var overwrite = false
  /// Whether large clips are encoded in overlapping tiles, which takes less memory.
  public var vaeTiling = false
  /// The number of clips of one size that are encoded together.
  public var batchSize = 1
  public var audio = Audio.whereThereIs
  /// The audio track of clips, and of other files that have several.
  public var audioTrack = AudioTrackChoice.automatic
  /// The frame rate that clips are converted to by dropping and repeating frames; nil keeps the
  /// rate of each clip.
  public var frameRate: Double?
  /// Whether interlaced frames are deinterlaced to one image each.
  public var deinterlaces = true
  /// Whether rows with damaged frames fail instead of being cached with a warning.
  public var isStrict = false
  /// The conversion of the colors of clips and images to RGB.
  public var color = ColorOptions()
  /// The factor by which references are smaller than their clips.
  public var referenceDownscale = 1
  /// The step between the frames of a reference that are used, after the first frame.
  public var referenceTemporalScale = 1
  /// Whether everything follows upstream's scripts, including their known bugs.
  public var isCompatible = false
  /// The samples of this process.
  public var share = WorkShare.whole
  public var device = Device.cpu
  /// The dtype of the models and the cache, except for audio, which is always float32. Upstream
  /// uses bfloat16.
  public var dtype = DType.bfloat16

  public init(dataset: String, buckets: [ResolutionBucket], models: ModelFiles) {
    self.dataset = dataset
    self.buckets = buckets
    self.models = models
  }

  /// Upstream's tiles.
  var tiling: Tiling? {
    let axis = Tiling.Axis(size: 512, overlap: 128)
    return vaeTiling ? Tiling(height: axis, width: axis) : nil
  }

  var captions: CaptionCleaning {
    CaptionCleaning(trigger: loraTrigger, removesPrefixes: removesLLMPrefixes)
  }
}

/// The changes to a caption before the text encoder reads it.
struct CaptionCleaning: Sendable {
  /// The word that precedes each caption, without surrounding whitespace.
  let trigger: String?
  let removesPrefixes: Bool

  init(trigger: String?, removesPrefixes: Bool) {
    let trimmed = trigger?.trimmingCharacters(in: .whitespacesAndNewlines) ?? ""
    self.trigger = trimmed.isEmpty ? nil : trimmed
    self.removesPrefixes = removesPrefixes
  }

  /// Phrases with which language models begin descriptions of clips. The first one that matches is
  /// removed once. The list and its order are upstream's (`process_captions.py`).
  static let prefixes: [String] = {
    let subjects = ["video", "clip"].flatMap { ["This \($0)", "The \($0)"] } + ["The animation"]
    let images = ["image", "picture"].flatMap { ["This \($0)", "The \($0)"] }
    let verbs = [
      "shows", "depicts", "features", "captures", "highlights", "introduces", "presents",
    ]
    return ["In the video,", "In this video,", "In this video clip,", "In the clip,", "Caption:"]
      + (subjects + images).flatMap { subject in verbs.map { "\(subject) \($0)" } }
  }()

  func prompt(_ caption: String) -> String {
    var text = caption
    if removesPrefixes {
      text = text.trimmingCharacters(in: .whitespacesAndNewlines)
      if let prefix = Self.prefixes.first(where: text.hasPrefix) {
        text = text.dropFirst(prefix.count).trimmingCharacters(in: .whitespacesAndNewlines)
      }
    }
    return trigger.map { "\($0) \(text)" } ?? text
  }
}
