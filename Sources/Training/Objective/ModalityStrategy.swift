/// The strategy of one modality in training: whether it is generated, and which parts of it are
/// conditioned.
///
/// All strategies of the configuration, including the older ones, are expressed by two of these.
public struct StreamStrategy: Sendable, Equatable {
  /// A part of the modality that the model is given instead of generating it.
  public struct Condition: Sendable, Equatable {
    public enum Kind: Sendable, Equatable {
      /// The first latent frame.
      case firstFrame
      /// The first latent frames, or time steps of audio.
      case prefix(Int)
      /// The last ones.
      case suffix(Int)
      /// Pixels from (top, left) to (bottom, right), in all frames.
      case spatialCrop(top: Int, left: Int, bottom: Int, right: Int)
      /// The part where the sample's mask in a folder of the cache is above 0.5.
      case mask(folder: String)
      /// Another clip or audio track in front of the modality, from a folder of the cache.
      case reference(folder: String)
    }

    public var kind: Kind
    /// Its probability for each sample; for a reference, of the whole step.
    public var probability: Double

    public init(_ kind: Kind, probability: Double = 1) {
      self.kind = kind
      self.probability = probability
    }

    /// The folder of a reference; nil for other conditions.
    public var referenceFolder: String? {
      if case .reference(let folder) = kind { folder } else { nil }
    }
  }

  /// A modality that is not generated stays clean, has no loss, and is attended to.
  public var isGenerated: Bool
  /// The folder of its latents in the cache.
  public var latentsFolder: String
  public var conditions: [Condition] = []
  /// Whether its noise level is the video's, as in the older strategy `text_to_video`.
  public var takesVideoSigma = false
  /// Whether references run at the target's frame rate and are rescaled in space only, as in the
  /// older `video_to_video`.
  public var referencesKeepTime = false
  /// Whether a clip of one latent frame is never conditioned as a whole, as in both older
  /// strategies.
  public var sparesSingleFrames = false

  public init(isGenerated: Bool, latentsFolder: String, conditions: [Condition] = []) {
    self.isGenerated = isGenerated
    self.latentsFolder = latentsFolder
    self.conditions = conditions
  }
}

/// The strategies of video and audio in training.
public struct StreamStrategies: Sendable, Equatable {
  public var video: StreamStrategy?
  public var audio: StreamStrategy?

  public init(video: StreamStrategy?, audio: StreamStrategy?) {
    self.video = video
    self.audio = audio
  }

  /// Folders of references and masks, each once.
  var conditionFolders: [String] {
    var folders: [String] = []
    for condition in (video?.conditions ?? []) + (audio?.conditions ?? []) {
      switch condition.kind {
      case .mask(let folder), .reference(let folder):
        if !folders.contains(folder) { folders.append(folder) }
      default: break
      }
    }
    return folders
  }
}
