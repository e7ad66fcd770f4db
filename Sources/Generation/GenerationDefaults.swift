import LTX

/// The default settings of a generation: upstream's values for the model's version (ltx-pipelines,
/// `utils/constants.py`).
public struct GenerationDefaults: Sendable {
  public var width = 768
  public var height = 512
  public var frames = 121
  public var frameRate = 24.0
  public var steps = 40
  public var guidance = PerModality(video: Guidance(), audio: Guidance())
  /// The H.264 compression applied to an image before it is encoded: the model was trained on
  /// frames of compressed videos.
  public var imageCRF = 33
  /// The strength of the distilled LoRA in the first and the second of two stages.
  public var distilledStrengths = (first: 0.0, second: 1.0)
  /// Whether the first stage of a distilled model adds fresh noise in each step.
  public var isAncestral = false

  /// - Parameters:
  ///   - version: The transformer's version; nil for LTX-2, whose files don't have one.
  ///   - videoVAEVersion: The video VAE's version, which may come from another file.
  ///   - blocks: The number of the transformer's blocks.
  ///   - method: The sampler. The second-order one needs fewer steps and other guidance.
  ///   - isTwoStage: Whether a second stage doubles the size.
  ///   - isDistilled: Whether the model is distilled: no guidance, and one step per fixed noise
  ///     level.
  public init(
    version: ModelVersion?, videoVAEVersion: ModelVersion?, blocks: Int, method: Sampler.Method,
    isTwoStage: Bool, isDistilled: Bool
  ) {
    let isAtLeast23 = version?.isAtLeast(2, 3) ?? false
    if videoVAEVersion?.isAtLeast(2, 4) ?? false { imageCRF = 18 }
    isAncestral = version?.isAtLeast(2, 5) ?? false
    if isTwoStage { (width, height) = (1536, 1024) }
    if isDistilled {
      steps = NoiseSchedule.distilled.count - 1
      return
    }
    (guidance.video.cfg, guidance.audio.cfg) = (3, 7)
    (guidance.video.modality, guidance.audio.modality) = (3, 3)
    switch method {
    case .euler:
      if isAtLeast23 { steps = 30 }
      (guidance.video.stg, guidance.audio.stg) = (1, 1)
      (guidance.video.rescale, guidance.audio.rescale) = (0.7, 0.7)
    case .res2s:
      steps = 15
      if isTwoStage { (width, height) = (1920, 1088) }
      distilledStrengths = (0.25, 0.5)
      (guidance.video.rescale, guidance.audio.rescale) = (0.45, 1)
    }
    // The published models have 48 blocks; other sizes use the block at the same relative depth.
    let block = blocks * (isAtLeast23 ? 28 : 29) / 48
    (guidance.video.stgBlocks, guidance.audio.stgBlocks) = ([block], [block])
  }
}

extension GuidanceChoice {
  /// The choice, completed with defaults.
  func guidance(defaults: Guidance) -> Guidance {
    var guidance = defaults
    guidance.cfg = cfg ?? defaults.cfg
    guidance.stg = stg ?? defaults.stg
    guidance.modality = modality ?? defaults.modality
    guidance.rescale = rescale ?? defaults.rescale
    guidance.skipSteps = skipSteps ?? defaults.skipSteps
    guidance.stgBlocks = stgBlocks ?? defaults.stgBlocks
    return guidance
  }

  /// Whether nothing is chosen.
  var isEmpty: Bool {
    cfg == nil && stg == nil && modality == nil && rescale == nil && skipSteps == nil
      && stgBlocks == nil
  }
}
