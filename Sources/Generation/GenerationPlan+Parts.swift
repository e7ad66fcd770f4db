// B batch, C latent channels, F H W latent frames, rows, columns.

import LTX
import NN
import Torch

extension GenerationPlan {
  /// The prompts and files that are encoded before sampling.
  public struct Inputs: Sendable {
    /// The negative prompt comes last if there is one.
    public var prompts: [String]
    public var videos: [VideoEncoding]
    public var audio: [AudioEncoding]
  }

  /// An image or clip to be encoded for one sampling.
  public struct VideoEncoding: Sendable {
    public var condition: Condition<MediaFile>
    /// The sampling's index.
    public var sampling: Int
    public var grid: VideoGrid
    /// The H.264 quality with which images are compressed first; 0 for no compression.
    public var crf: Int
    /// The factors by which a reference is coarser than the video.
    public var scale = ReferenceScale()
    public var attention = 1.0

    /// The size of its frames.
    var width: Int { grid.columns * grid.factors.width / scale.space }
    var height: Int { grid.rows * grid.factors.height / scale.space }
  }

  /// An audio file to be encoded for all samplings.
  public struct AudioEncoding: Sendable {
    public var condition: Condition<MediaFile>
    public var grid: AudioGrid
    /// The result's length in seconds.
    public var seconds: Double
  }

  /// One pass over the noise levels.
  public struct Sampling: Sendable {
    /// The position among the samplings; conditions are encoded for each sampling.
    public var index: Int
    /// The grids of the latents; nil for a modality that is not generated.
    public var video: VideoGrid?
    public var audio: AudioGrid?
    /// The noise levels, one more than the number of steps.
    public var sigmas: [Float]
    public var method: Sampler.Method
    /// Whether each step replaces the noise: see `AncestralNoise`.
    public var isAncestral: Bool
    public var guidance: PerModality<Guidance>
    public var loras: [CheckedLoRA]
    /// The pixel frames that are generated in addition to the video.
    public var keyframes: [Int] = []
    /// The path of the upsampler for the latent of the previous sampling; nil for the first
    /// sampling, which starts from pure noise. A later one mixes noise into the upsampled latent,
    /// by the first of `sigmas`.
    public var upsampler: String?
    /// Whether a refinement's own audio is used instead of the previous sampling's.
    public var keepsAudio: Bool

    public var refines: Bool { upsampler != nil }

    var usesNegativePrompt: Bool {
      (video != nil && guidance.video.cfg != 1) || (audio != nil && guidance.audio.cfg != 1)
    }

    var modalities: Set<Modality> { video == nil ? .audio : audio == nil ? .video : .both }
  }

  /// The outputs after sampling.
  public struct Output: Sendable {
    /// The source of the frames.
    public enum Frames: Sendable {
      case decoded(Tiling)
      /// The frames of a given video, with the audio that was generated for it.
      case copied(path: String)
    }

    /// False if the audio is given, or absent.
    public var decodesAudio: Bool
    /// Nil for audio alone.
    public var frames: Frames?
  }

  /// The stages in the order in which the pipeline reports them.
  public var stages: [GenerationStage] {
    var stages: [GenerationStage] = [.encodePrompts(inputs.prompts)]
    if !inputs.videos.isEmpty { stages.append(.encodeVideos) }
    if !inputs.audio.isEmpty { stages.append(.encodeAudio) }
    for sampling in samplings {
      if sampling.refines { stages.append(.upsample) }
      stages.append(.sample(refines: sampling.refines))
    }
    stages += (detailing?.rounds ?? []).map { _ in .addFrames }
    guard let output else { return stages }
    if output.decodesAudio { stages.append(.decodeAudio) }
    switch output.frames {
    case .decoded: stages.append(.decodeVideo)
    case .copied: stages.append(.copyVideo)
    case nil: stages.append(.writeAudio)
    }
    return stages
  }

  /// The modalities of the transformer that are needed.
  public var modalities: Set<Modality> { samplings.first?.modalities ?? .both }

  /// Whether latents of a modality are decoded.
  public var decodes: PerModality<Bool> {
    let decodesVideo = if case .decoded? = output?.frames { true } else { false }
    return PerModality(video: decodesVideo, audio: output?.decodesAudio ?? false)
  }
}
