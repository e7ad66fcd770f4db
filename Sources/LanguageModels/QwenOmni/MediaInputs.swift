// B conversations, S tokens, N recordings, P patches, F mel frequencies, R frames of the longest
// recording, M tokens of images or clips, A of recordings, W width of the language model.

import NN
import Torch

/// Images, frames and audio in the form that the towers of an omni model read: host tensors, media
/// in the order of the prompt.
public struct MediaInputs: Sendable {
  /// [P, values of a patch], float32
  public var pixelValues: Tensor?
  /// Frames (1), rows and columns of patches of each image.
  public var imageGrids: [[Int]] = []
  /// [P, values of a patch], float32
  public var pixelValuesVideos: Tensor?
  /// Pairs of frames, rows and columns of patches of each clip.
  public var videoGrids: [[Int]] = []
  /// [N, F, R], float32
  public var inputFeatures: Tensor?
  /// [N, R], int64: 1 on the frames of each recording, which come first.
  public var featureMask: Tensor?

  public init() {}
}

/// The outputs of the towers, which replace the embeddings of their placeholders in order.
public struct MediaEmbeddings: Sendable {
  /// [M, W]
  public var image: Tensor?
  /// [M, W]
  public var video: Tensor?
  /// [A, W]
  public var audio: Tensor?
  /// Qwen3-Omni: additions to the outputs of the first layers, [M, W] each.
  public var deepstackImage: [Tensor] = []
  public var deepstackVideo: [Tensor] = []

  public init() {}
}

/// Everything that an omni model needs to answer one or more conversations.
public struct CaptionInputs: Sendable {
  /// The tokens of each conversation, padded on the left: B lists of S.
  public let ids: [[Int]]
  /// 0 on padding, otherwise 1.
  public let mask: [[Int]]
  /// [3, B, S], float32: time, row and column of each token.
  public let positions: Tensor
  /// [B, 1], float32: the difference between the position and the index of the tokens that follow.
  public let delta: Tensor
  public let media: MediaInputs
  /// The time between two steps of each clip's grid.
  public let secondsPerGrid: [Float]
  /// The number of frames of each recording's spectrogram.
  public let audioFrames: [Int]
  /// Whether the audio of a clip is interleaved with its frames.
  public let isInterleaved: Bool

  public init(
    ids: [[Int]], mask: [[Int]], positions: Tensor, delta: Tensor, media: MediaInputs,
    secondsPerGrid: [Float], audioFrames: [Int], isInterleaved: Bool
  ) {
    self.ids = ids
    self.mask = mask
    self.positions = positions
    self.delta = delta
    self.media = media
    self.secondsPerGrid = secondsPerGrid
    self.audioFrames = audioFrames
    self.isInterleaved = isInterleaved
  }
}

/// The vision tower and the audio tower of an omni model.
public struct QwenOmniTowers: Sendable {
  public let vision: VisionTower
  public let audio: AudioTower

  /// - Parameter thinker: The scope of the thinker.
  /// - Throws: `WeightError` if a tensor is missing or doesn't have the shape in the configuration.
  public init(_ thinker: Weights, _ configuration: QwenOmniConfiguration) throws {
    vision = try VisionTower(thinker / "visual", configuration.vision)
    audio = try AudioTower(thinker / "audio_tower", configuration.audio)
  }

  /// - Throws: `Issue` for tensors that don't match each other or the model.
  public func callAsFunction(_ media: MediaInputs) throws -> MediaEmbeddings {
    var embeddings = MediaEmbeddings()
    if let pixels = media.pixelValues {
      let output = try vision(pixels: pixels, grid: media.imageGrids)
      (embeddings.image, embeddings.deepstackImage) = (output.embeddings, output.deepstack)
    }
    if let pixels = media.pixelValuesVideos {
      let output = try vision(pixels: pixels, grid: media.videoGrids)
      (embeddings.video, embeddings.deepstackVideo) = (output.embeddings, output.deepstack)
    }
    if let features = media.inputFeatures, let mask = media.featureMask {
      embeddings.audio = try audio(features: features, mask: mask)
    }
    return embeddings
  }
}
