import LTX

/// The source of a condition's data in training.
public enum CachedSource: Sendable, Equatable {
  /// The latents of the sample itself.
  case sample
  /// A folder of the cache.
  case folder(String)
}

/// The treatment of one modality in training: whether it is generated, and its conditions.
public struct ModalityStrategy: Sendable, Equatable {
  /// Whether the modality is generated. Otherwise it stays clean, has no loss, and only conditions
  /// the other one.
  public var isGenerated = true
  /// The folder of its latents in the cache.
  public var latentsFolder = ""
  public var conditions: [Condition<CachedSource>] = []
  /// Whether it uses the video's noise level instead of its own: the older strategy
  /// `text_to_video`.
  public var takesVideoSigma = false
  /// References run at the target's frame rate and are scaled in space only: the older strategy
  /// `video_to_video`.
  public var referencesKeepTime = false
  /// Whether a clip of one latent frame is never wholly conditioned: both older strategies.
  public var sparesSingleFrames = false

  public init(
    isGenerated: Bool, latentsFolder: String, conditions: [Condition<CachedSource>] = []
  ) {
    self.isGenerated = isGenerated
    self.latentsFolder = latentsFolder
    self.conditions = conditions
  }

  init() {}

  /// The number of conditions that apply at random, which come first in `conditions`. In the older
  /// `video_to_video`, the reference always applies.
  public var drawnConditions: Int { referencesKeepTime ? 1 : conditions.count }
}

extension Condition<CachedSource> {
  public static func firstFrame(probability: Double = 1) -> Self {
    Self(.sample, .firstFrame, probability: probability)
  }

  public static func prefix(latentFrames: Int, probability: Double = 1) -> Self {
    Self(.sample, .prefix(.latentFrames(latentFrames)), probability: probability)
  }

  public static func suffix(latentFrames: Int, probability: Double = 1) -> Self {
    Self(.sample, .suffix(.latentFrames(latentFrames)), probability: probability)
  }

  public static func crop(_ region: PixelRegion, probability: Double = 1) -> Self {
    Self(.sample, .crop(region), probability: probability)
  }

  public static func mask(folder: String, probability: Double = 1) -> Self {
    Self(.sample, .mask(.folder(folder), .keepsWhite), probability: probability)
  }

  public static func reference(folder: String, probability: Double = 1) -> Self {
    Self(.folder(folder), .reference(), probability: probability)
  }

  /// The folder of a reference; nil for other conditions.
  public var referenceFolder: String? {
    if isReference, case .folder(let folder) = source { folder } else { nil }
  }

  /// The folder of a mask; nil for other conditions.
  public var maskFolder: String? { if case .folder(let folder)? = mask { folder } else { nil } }
}

extension PerModality<ModalityStrategy?> {
  /// The folders of references and masks, each once.
  var conditionFolders: [String] {
    values().flatMap(\.conditions).compactMap { $0.referenceFolder ?? $0.maskFolder }
      .reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
  }
}

extension TrainingStrategy {
  /// The strategy in terms of the flexible one, which also covers the older ones.
  public var modalities: PerModality<ModalityStrategy?> {
    switch self {
    case .flexible(let flexible): return flexible.modalities
    case .textToVideo(let older):
      var video = ModalityStrategy(
        isGenerated: true, latentsFolder: "latents",
        conditions: [.firstFrame(probability: older.firstFrameConditioningP)])
      video.sparesSingleFrames = true
      var audio: ModalityStrategy?
      if older.withAudio {
        audio = ModalityStrategy(isGenerated: true, latentsFolder: older.audioLatentsDir)
        audio?.takesVideoSigma = true
      }
      return PerModality(video: video, audio: audio)
    case .videoToVideo(let older):
      var video = ModalityStrategy(
        isGenerated: true, latentsFolder: "latents",
        conditions: [
          .firstFrame(probability: older.firstFrameConditioningP),
          .reference(folder: older.referenceLatentsDir),
        ])
      video.sparesSingleFrames = true
      video.referencesKeepTime = true
      return PerModality(video: video, audio: nil)
    }
  }
}
