extension StreamStrategies {
  /// - Parameter strategy: the strategy of the configuration; older ones are expressed in terms of
  ///   the flexible one.
  public init(_ strategy: TrainingStrategy) {
    switch strategy {
    case .flexible(let flexible):
      self.init(
        video: flexible.video.map { StreamStrategy($0) },
        audio: flexible.audio.map { StreamStrategy($0) })
    case .textToVideo(let older):
      var video = StreamStrategy(
        isGenerated: true, latentsFolder: "latents",
        conditions: [.init(.firstFrame, probability: older.firstFrameConditioningP)])
      video.sparesSingleFrames = true
      var audio: StreamStrategy?
      if older.withAudio {
        audio = StreamStrategy(isGenerated: true, latentsFolder: older.audioLatentsDir)
        audio?.takesVideoSigma = true
      }
      self.init(video: video, audio: audio)
    case .videoToVideo(let older):
      var video = StreamStrategy(
        isGenerated: true, latentsFolder: "latents",
        conditions: [
          .init(.firstFrame, probability: older.firstFrameConditioningP),
          .init(.reference(folder: older.referenceLatentsDir)),
        ])
      video.sparesSingleFrames = true
      video.referencesKeepTime = true
      self.init(video: video, audio: nil)
    }
  }
}

extension StreamStrategy {
  init(_ modality: ModalityStrategy) {
    self.init(
      isGenerated: modality.isGenerated, latentsFolder: modality.latentsDir,
      conditions: modality.conditions.map { condition in
        let kind: Condition.Kind =
          switch condition {
          case .firstFrame: .firstFrame
          case .prefix(let boundary, _): .prefix(boundary)
          case .suffix(let boundary, _): .suffix(boundary)
          case .spatialCrop(let region, _):
            .spatialCrop(
              top: region.top, left: region.left, bottom: region.bottom, right: region.right)
          case .mask(let folder, _): .mask(folder: folder)
          case .reference(let folder, _): .reference(folder: folder)
          }
        return Condition(kind, probability: condition.probability)
      })
  }

  /// The number of conditions whose use is random, at the beginning of the list: in the older
  /// `video_to_video`, the reference is always used.
  public var drawnConditions: Int { referencesKeepTime ? 1 : conditions.count }
}
