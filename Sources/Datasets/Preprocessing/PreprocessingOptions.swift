import LTX
import Media
import Torch

/// What a dataset is made into, and of what.
public struct PreprocessingOptions: Sendable {
  /// What becomes of sound.
  public enum Audio: Sendable {
    /// Taken where a clip has some.
    case whereThereIs
    /// Asked for: a clip without is a failure.
    case required
    /// Left in the clips; columns of sound are still read.
    case skipped
  }

  /// The dataset file, `.json`, `.jsonl` or `.csv`, or a folder of media with captions beside them.
  public var dataset: String
  /// Sizes to bring clips to; each clip takes the one that suits it best.
  public var buckets: [ResolutionBucket]
  /// Lengths in seconds to cut sounds to, where there are no videos.
  public var audioDurations: [Double] = []
  /// The model, whose VAEs, text projection and text encoder are used.
  public var models: ModelFiles
  /// Rounds the text encoder to int8.
  public var textEncoder8bit = false
  /// Columns of the dataset that are not found by their names.
  public var columns: [Role: String] = [:]
  /// Put before each caption, with a blank between.
  public var loraTrigger: String?
  /// Takes away how language models begin captions.
  public var removesLLMPrefixes = false
  /// Where the cache goes; `.precomputed` beside the dataset, or in its folder, if nil.
  public var outputFolder: String?
  public var format = CacheFormat.safetensors
  /// Encodes everything, also what is there already and fits.
  public var overwrite = false
  /// Encodes large clips in overlapping tiles, which takes less memory.
  public var vaeTiling = false
  /// Clips of one size that are encoded together.
  public var batchSize = 1
  public var audio = Audio.whereThereIs
  /// The audio track of clips, and of other files that have several.
  public var audioTrack = AudioTrackChoice.automatic
  /// Brings clips to one rate, by leaving out and repeating frames; nil leaves each its own.
  public var frameRate: Double?
  /// Makes one image of each interlaced frame.
  public var deinterlaces = true
  /// Fails rows with damaged frames, which are cached with a warning otherwise.
  public var isStrict = false
  /// How the colors of clips and images become RGB.
  public var color = ColorOptions()
  /// By how much references are smaller than their clips.
  public var referenceDownscale = 1
  /// Of references, the first frame and then every n-th are taken.
  public var referenceTemporalScale = 1
  /// Does all as the reference's scripts do it, known faults included.
  public var isCompatible = false
  public var share = ProcessShare.whole
  public var device = Device.cpu
  /// What the models compute in and the cache holds, but for sound, which is always float32; the
  /// reference uses bfloat16.
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

  var captions: CaptionCleaning {
    CaptionCleaning(trigger: loraTrigger, removesPrefixes: removesLLMPrefixes)
  }
}
