// B batch, C latent channels, F H W latent frames, rows, columns.

import LTX
import NN
import Torch

/// A stage of a generation. A recipe is a list of them; each loads what it needs, and frees it before the next begins.
public enum GenerationStage: Sendable {
  /// Prompts to the contexts that the transformer attends to.
  case encodePrompts([String])
  /// Pictures to the conditions of the sampling that follows.
  case encodeImages([FittedImage])
  /// Noise to a latent.
  case sample(Sampling)
  /// The latent to the frames of the output.
  case decode(Tiling)

  /// One walk down the noise levels.
  public struct Sampling: Sendable {
    public var grid: VideoGrid
    /// One more than there are steps.
    public var sigmas: [Float]
    public var guidance: Guidance
    public var stgBlocks: Set<Int>?
    public var loras: [CheckedLoRA]
  }

  /// A picture in the size of the video: what `FrameTensors.filled` gives.
  public struct FittedImage: Sendable {
    public let condition: ImageCondition
    /// [3, height, width], float32, -1 to 1.
    public let pixels: Tensor
  }

  public var title: String {
    switch self {
    case .encodePrompts: "Reading the prompt"
    case .encodeImages: "Encoding the pictures"
    case .sample: "Sampling"
    case .decode: "Decoding"
    }
  }

  /// What the progress of the stage is counted in.
  public var unit: String {
    switch self {
    case .encodePrompts: "prompts"
    case .encodeImages: "pictures"
    case .sample: "steps"
    case .decode: "frames"
    }
  }
}

/// How far a generation is. Reported when a stage begins to load its models, with `done` 0, and after each unit.
public struct GenerationProgress: Sendable {
  public let stage: GenerationStage
  public let done: Int
  public let total: Int
}

extension Tiling {
  /// What ltx-core decodes with, rounded to whole latent cells where the compression asks for it. Videos that fit into one
  /// tile are decoded as one.
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
