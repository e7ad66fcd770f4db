/// A stage of a generation, for progress reports. Each loads the models it needs and frees them
/// before the next one starts.
public enum GenerationStage: Sendable {
  /// The prompts, with the negative one last if there is one.
  case encodePrompts([String])
  case encodeVideos
  case encodeAudio
  case sample(refines: Bool)
  case upsample
  /// Doubles the frame rate.
  case addFrames
  case decodeAudio
  /// Decodes frames and writes them with the audio.
  case decodeVideo
  /// Writes the frames of a given video with the generated audio.
  case copyVideo
  case writeAudio

  public var title: String {
    switch self {
    case .encodePrompts(let prompts):
      prompts.count == 1 ? "Encoding the prompt" : "Encoding the prompts"
    case .encodeVideos: "Encoding images and clips"
    case .encodeAudio: "Encoding audio"
    case .sample(let refines): refines ? "Refining" : "Sampling"
    case .upsample: "Upsampling"
    case .addFrames: "Adding frames"
    case .decodeAudio: "Decoding audio"
    case .decodeVideo: "Decoding frames"
    case .copyVideo: "Writing frames"
    case .writeAudio: "Writing audio"
    }
  }

  /// The unit of the stage's progress.
  public var unit: String {
    switch self {
    case .encodePrompts: "prompts"
    case .encodeVideos, .encodeAudio: "files"
    case .decodeAudio, .writeAudio: "clips"
    case .sample, .addFrames: "steps"
    case .upsample: "videos"
    case .decodeVideo, .copyVideo: "frames"
    }
  }

  /// Whether the stage writes files.
  public var writes: Bool {
    switch self {
    case .decodeVideo, .copyVideo, .writeAudio: true
    default: false
    }
  }
}

/// The progress of a generation, reported with `done` 0 when a stage starts to load its models, and
/// after each unit.
public struct GenerationProgress: Sendable {
  public let stage: GenerationStage
  public let done: Int
  public let total: Int

  public init(stage: GenerationStage, done: Int, total: Int) {
    self.stage = stage
    self.done = done
    self.total = total
  }
}
