import LTX

/// The training strategy: the generated modalities, and their conditioned parts.
public enum TrainingStrategy: Sendable, Equatable {
  case flexible(FlexibleStrategy)
  /// An older strategy: video from text, with or without audio.
  case textToVideo(TextToVideoStrategy)
  /// An older strategy: video from a reference video.
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
  /// The role of its files in the strategy, by upstream's name: `video_latents`, `conditions`,
  /// `ref_latents`, or the folder's own name for references and masks of the flexible strategy.
  public var role: String

  public init(folder: String, role: String) {
    self.folder = folder
    self.role = role
  }
}

extension [DataSource] {
  /// Sets a folder's role; if a folder is named twice, the last role counts.
  fileprivate mutating func set(_ folder: String, _ role: String) {
    if let index = firstIndex(where: { $0.folder == folder }) {
      self[index].role = role
    } else {
      append(DataSource(folder: folder, role: role))
    }
  }
}

/// The strategy that covers all modes, by generated modalities and their conditions. A nil modality
/// is absent.
public struct FlexibleStrategy: Sendable, Equatable {
  public var modalities: PerModality<ModalityStrategy?>
  /// An extension: the weights of the modalities in the loss.
  public var objective = Objective()

  public init(video: ModalityStrategy? = nil, audio: ModalityStrategy? = nil) {
    modalities = PerModality(video: video, audio: audio)
  }

  public var dataSources: [DataSource] {
    var sources = [DataSource(folder: "conditions", role: "conditions")]
    for (modality, strategy) in modalities.pairs {
      if let strategy { sources.set(strategy.latentsFolder, "\(modality)_latents") }
    }
    for folder in modalities.conditionFolders { sources.set(folder, folder) }
    return sources
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
