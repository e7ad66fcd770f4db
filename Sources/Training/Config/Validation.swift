import Generation
import LTX

extension TrainingConfiguration {
  /// Samples that are generated during training, and the loss on samples that are held out.
  public struct Validation: Sendable, Equatable {
    public var samples: [ValidationSample] = []
    public var negativePrompt = GenerationRequest.defaultNegativePrompt
    public var videoDims = VideoDimensions(width: 960, height: 544, frames: 89)
    public var frameRate = 24.0
    public var seed = 42
    public var inferenceSteps = 30
    /// Steps between samples; nil for none.
    public var interval: Int? = 100
    public var videoCFGScale = 3.0
    public var audioCFGScale = 7.0
    /// The strength of spatio-temporal guidance; 0 turns it off.
    public var videoSTGScale = 1.0
    public var audioSTGScale = 1.0
    /// The perturbed blocks; nil for all.
    public var stgBlocks: [Int]? = [28]
    public var guidanceRescale = 0.7
    public var videoModalityGuidanceScale = 3.0
    public var audioModalityGuidanceScale = 3.0
    public var generateAudio = true
    public var generateVideo = true
    public var skipInitialValidation = false
    /// An extension: the held-out samples.
    public var heldOut = HeldOut()

    /// Steps between measurements of the validation loss; nil for none.
    public var heldOutInterval: Int? { heldOut.isUsed ? heldOut.interval ?? interval : nil }
  }

  /// An extension: samples whose loss is measured instead of trained on.
  public struct HeldOut: Sendable, Equatable {
    /// A dataset of its own; nil takes the samples from the training set, chosen by a hash of their
    /// names.
    public var preprocessedDataRoot: String?
    /// The number of samples; 0 for none, or for all of a separate dataset.
    public var count = 0
    /// Steps between measurements; nil for the interval of the samples.
    public var interval: Int?
    /// The seed of the noise, the sigmas and the choice of samples.
    public var seed = 42

    /// Whether any samples are held out.
    public var isUsed: Bool { preprocessedDataRoot != nil || count > 0 }
  }
}

public struct VideoDimensions: Sendable, Equatable {
  public var width: Int
  public var height: Int
  public var frames: Int

  public init(width: Int, height: Int, frames: Int) {
    self.width = width
    self.height = height
    self.frames = frames
  }
}

public struct ValidationSample: Sendable, Equatable {
  public var prompt = ""
  public var conditions: [Condition<MediaFile>] = []
  /// Nil for the value of the section.
  public var videoDims: VideoDimensions?
  public var seed: Int?

  public init(
    prompt: String, conditions: [Condition<MediaFile>] = [], videoDims: VideoDimensions? = nil,
    seed: Int? = nil
  ) {
    self.prompt = prompt
    self.conditions = conditions
    self.videoDims = videoDims
    self.seed = seed
  }

  init() {}
}

extension Condition<MediaFile> {
  /// The name of the condition's type in the file.
  public var validationType: String {
    isWhole ? (modality == .video ? "video_to_audio" : "audio_to_video") : type
  }
}
