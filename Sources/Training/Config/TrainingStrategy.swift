/// What is trained on: which streams, and what of them is given.
public enum TrainingStrategy: Sendable, Equatable {
  case flexible(FlexibleStrategy)
  /// Older: video from text, with or without sound.
  case textToVideo(TextToVideoStrategy)
  /// Older: video from a reference video.
  case videoToVideo(VideoToVideoStrategy)

  public var name: String {
    switch self {
    case .flexible: "flexible"
    case .textToVideo: "text_to_video"
    case .videoToVideo: "video_to_video"
    }
  }

  /// The objective with the strategy's weights of the modalities.
  public var objective: Objective {
    switch self {
    case .flexible(let strategy): strategy.objective
    case .textToVideo(let strategy): strategy.objective
    case .videoToVideo: Objective()
    }
  }

  /// The folders of the cache that the strategy reads, each once.
  public var dataSources: [DataSource] {
    switch self {
    case .flexible(let strategy): strategy.dataSources
    case .textToVideo(let strategy): strategy.dataSources
    case .videoToVideo(let strategy): strategy.dataSources
    }
  }
}

/// A folder below the data root.
public struct DataSource: Sendable, Equatable {
  public var folder: String
  /// What its files are to the strategy, in the official trainer's word: `video_latents`,
  /// `conditions`, `ref_latents`, or the folder's own name for references and masks of the flexible
  /// strategy.
  public var role: String

  public init(folder: String, role: String) {
    self.folder = folder
    self.role = role
  }
}

extension [DataSource] {
  /// A folder that is named twice plays its last role.
  fileprivate mutating func set(_ folder: String, _ role: String) {
    if let index = firstIndex(where: { $0.folder == folder }) {
      self[index].role = role
    } else {
      append(DataSource(folder: folder, role: role))
    }
  }
}

/// Every mode, by what is generated and what is given. A nil stream is left out.
public struct FlexibleStrategy: Sendable, Equatable {
  public var video: ModalityStrategy?
  public var audio: ModalityStrategy?
  /// An extension: the weights of the modalities in the loss.
  public var objective = Objective()

  public init(video: ModalityStrategy? = nil, audio: ModalityStrategy? = nil) {
    self.video = video
    self.audio = audio
  }

  public var dataSources: [DataSource] {
    var sources = [DataSource(folder: "conditions", role: "conditions")]
    if let video { sources.set(video.latentsDir, "video_latents") }
    if let audio { sources.set(audio.latentsDir, "audio_latents") }
    for condition in (video?.conditions ?? []) + (audio?.conditions ?? []) {
      switch condition {
      case .mask(let folder, _), .reference(let folder, _): sources.set(folder, folder)
      case .firstFrame, .prefix, .suffix, .spatialCrop: break
      }
    }
    return sources
  }
}

public struct ModalityStrategy: Sendable, Equatable {
  /// False for a stream that stays clean and only conditions the other.
  public var isGenerated = true
  public var latentsDir = ""
  public var conditions: [ConditionStrategy] = []

  public init(isGenerated: Bool, latentsDir: String, conditions: [ConditionStrategy] = []) {
    self.isGenerated = isGenerated
    self.latentsDir = latentsDir
    self.conditions = conditions
  }

  init() {}
}

/// What is given of a stream, and how often.
public enum ConditionStrategy: Sendable, Equatable {
  /// The first latent frame; video only.
  case firstFrame(probability: Double)
  /// The first latent frames, or time steps of sound.
  case prefix(temporalBoundary: Int, probability: Double)
  /// The last ones.
  case suffix(temporalBoundary: Int, probability: Double)
  /// A rectangle of all frames; video only.
  case spatialCrop(spatialRegion: SpatialRegion, probability: Double)
  /// What the sample's mask in a folder says.
  case mask(maskDir: String, probability: Double)
  /// Another clip or sound, put in front of the stream (IC-LoRA).
  case reference(latentsDir: String, probability: Double)

  public var probability: Double {
    switch self {
    case .firstFrame(let p), .prefix(_, let p), .suffix(_, let p), .spatialCrop(_, let p),
      .mask(_, let p),
      .reference(_, let p):
      p
    }
  }
}

/// A rectangle of pixels from (top, left) to (bottom, right), the last ones not included.
public struct SpatialRegion: Sendable, Equatable {
  public var top: Int
  public var left: Int
  public var bottom: Int
  public var right: Int

  public init(top: Int, left: Int, bottom: Int, right: Int) {
    self.top = top
    self.left = left
    self.bottom = bottom
    self.right = right
  }
}

public struct TextToVideoStrategy: Sendable, Equatable {
  public var firstFrameConditioningP = 0.1
  public var withAudio = false
  public var audioLatentsDir = "audio_latents"
  /// An extension: the weights of the modalities in the loss.
  public var objective = Objective()

  public init() {}

  public var dataSources: [DataSource] {
    var sources = [
      DataSource(folder: "latents", role: "latents"),
      DataSource(folder: "conditions", role: "conditions"),
    ]
    if withAudio { sources.set(audioLatentsDir, "audio_latents") }
    return sources
  }
}

public struct VideoToVideoStrategy: Sendable, Equatable {
  public var firstFrameConditioningP = 0.1
  public var referenceLatentsDir = "reference_latents"

  public init() {}

  public var dataSources: [DataSource] {
    var sources = [
      DataSource(folder: "latents", role: "latents"),
      DataSource(folder: "conditions", role: "conditions"),
    ]
    sources.set(referenceLatentsDir, "ref_latents")
    return sources
  }
}
