/// What training does with one of the two streams: whether it is generated, and what of it is
/// given.
///
/// All strategies of the configuration, the older ones too, come down to two of these.
public struct StreamStrategy: Sendable, Equatable {
  /// A part of the stream that the model is given instead of having to generate it.
  public struct Condition: Sendable, Equatable {
    public enum Kind: Sendable, Equatable {
      /// The first latent frame.
      case firstFrame
      /// The first latent frames, or time steps of sound.
      case prefix(Int)
      /// The last ones.
      case suffix(Int)
      /// Pixels from (top, left) to (bottom, right), in all frames.
      case spatialCrop(top: Int, left: Int, bottom: Int, right: Int)
      /// Where the sample's mask in a folder of the cache is above 0.5.
      case mask(folder: String)
      /// Another clip or sound in front of the stream, from a folder of the cache.
      case reference(folder: String)
    }

    public var kind: Kind
    /// How often it applies: to each sample on its own, but a reference to a whole batch.
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

  /// A stream that is not generated stays clean, has no loss, and is attended to.
  public var isGenerated: Bool
  /// The folder of its latents in the cache.
  public var latentsFolder: String
  public var conditions: [Condition] = []
  /// Its noise level is the video's and not its own. So it is in the older strategy
  /// `text_to_video`.
  public var takesVideoSigma = false
  /// References run at the target's frame rate and are rescaled in space only. So it is in the
  /// older `video_to_video`.
  public var referencesKeepTime = false
  /// A clip of one latent frame is never given as a whole. So it is in both older strategies.
  public var sparesSingleFrames = false

  public init(isGenerated: Bool, latentsFolder: String, conditions: [Condition] = []) {
    self.isGenerated = isGenerated
    self.latentsFolder = latentsFolder
    self.conditions = conditions
  }
}

/// What training does with video and sound.
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
