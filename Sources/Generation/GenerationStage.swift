// B batch, C latent channels, F H W latent frames, rows, columns.

import LTX
import NN
import Torch

/// A stage of a generation. A recipe is a list of them; each loads what it needs, and frees it
/// before the next begins.
public enum GenerationStage: Sendable {
  /// Prompts, the negative one last if there is one, to the contexts that the transformer attends
  /// to.
  case encodePrompts([String])
  /// Pictures and clips to the conditions of the sampling that follows.
  case encodeVideos([VideoEncoding])
  /// Sounds likewise.
  case encodeAudio([AudioEncoding])
  /// Noise, or noise mixed into what the stage before has made, to latents.
  case sample(Sampling)
  /// The video's latent to a larger one.
  case upsample(path: String)
  /// The sound's latent to a waveform.
  case decodeAudio
  /// The video's latent to frames, and all to the output.
  case decodeVideo(Tiling)
  /// A given video's frames to the output, with the sound that was made for it.
  case copyVideo(path: String)
  /// A waveform without a video to the output.
  case writeAudio

  /// One walk down the noise levels.
  public struct Sampling: Sendable {
    /// Which of the samplings it is: conditions are encoded for each.
    public var index: Int
    /// The grids of the latents; nil for a modality that is not generated.
    public var video: VideoGrid?
    public var audio: AudioGrid?
    /// One more than there are steps.
    public var sigmas: [Float]
    public var method: Sampler.Method
    public var guidance: PerModality<Guidance>
    public var loras: [CheckedLoRA]
    /// Goes on from what was made before, with the first of `sigmas` as the part of noise, instead
    /// of from noise alone.
    public var refines: Bool
    /// Whether the sound of a refinement is kept, or the one from before.
    public var keepsAudio: Bool

    var usesNegativePrompt: Bool {
      (video != nil && guidance.video.cfg != 1) || (audio != nil && guidance.audio.cfg != 1)
    }

    var modalities: Set<Modality> { video == nil ? .audio : audio == nil ? .video : .both }
  }

  /// A picture or clip to be encoded for one sampling.
  public struct VideoEncoding: Sendable {
    public var condition: Condition<MediaFile>
    /// The sampling's index.
    public var sampling: Int
    public var grid: VideoGrid
    /// How H.264 compresses pictures first; 0 for not at all.
    public var crf: Int
    /// How much coarser a reference is than the video.
    public var scale = ReferenceScale()
    public var attention = 1.0

    /// The size of its frames.
    var width: Int { grid.columns * grid.factors.width / scale.space }
    var height: Int { grid.rows * grid.factors.height / scale.space }
  }

  /// A sound to be encoded for all samplings.
  public struct AudioEncoding: Sendable {
    public var condition: Condition<MediaFile>
    public var grid: AudioGrid
    /// The result's length in seconds.
    public var seconds: Double
  }

  public var title: String {
    switch self {
    case .encodePrompts(let prompts):
      prompts.count == 1 ? "Reading the prompt" : "Reading the prompts"
    case .encodeVideos: "Encoding pictures"
    case .encodeAudio: "Encoding sound"
    case .sample(let sampling): sampling.refines ? "Refining" : "Sampling"
    case .upsample: "Enlarging"
    case .decodeAudio: "Decoding sound"
    case .decodeVideo: "Decoding frames"
    case .copyVideo: "Writing frames"
    case .writeAudio: "Writing sound"
    }
  }

  /// What the progress of the stage is counted in.
  public var unit: String {
    switch self {
    case .encodePrompts: "prompts"
    case .encodeVideos: "files"
    case .encodeAudio, .decodeAudio, .writeAudio: "sounds"
    case .sample: "steps"
    case .upsample: "videos"
    case .decodeVideo, .copyVideo: "frames"
    }
  }

  /// Whether files are being written.
  public var writes: Bool {
    switch self {
    case .decodeVideo, .copyVideo, .writeAudio: true
    default: false
    }
  }
}

/// How far a generation is. Reported when a stage begins to load its models, with `done` 0, and
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

extension Tiling {
  /// What ltx-core decodes with, rounded to whole latent cells where the compression asks for it.
  /// Videos that fit into one tile are decoded as one.
  static func usual(for factors: CompressionFactors) -> Tiling {
    func axis(_ usual: Axis?, _ factor: Int) -> Axis? {
      guard let usual else { return nil }
      let overlap = (usual.overlap + factor - 1) / factor * factor
      let size = (usual.size + factor - 1) / factor * factor
      return Axis(size: max(size, overlap + factor, 2 * factor), overlap: overlap)
    }
    return Tiling(
      frames: axis(usual.frames, factors.time), height: axis(usual.height, factors.height),
      width: axis(usual.width, factors.width))
  }
}
