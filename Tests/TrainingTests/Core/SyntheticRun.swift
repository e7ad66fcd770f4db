import Datasets
import Foundation
import LTX
import NN
import Optimizers
import TensorFiles
import TestSupport
import Torch

@testable import Training

/// A random cache for the tiny model, with a file in every folder that a strategy may name, and
/// configurations of runs on it.
final class SyntheticRun: Sendable {
  /// The sizes of a sample.
  struct Shape: Sendable {
    /// Latent frames, rows, columns.
    var video = [3, 2, 2]
    /// Time steps.
    var audio = 6
    var fps = 25.0

    /// The second bucket of mixed caches.
    static let other = Shape(video: [2, 2, 4], audio: 4, fps: 24)
  }

  private static let textTokens = 128
  private let scratch: ScratchFolder
  /// The checkpoint, or the transformer's file of a split pack.
  private let modelPath: String
  private let videoVAEPath: String?

  /// - Parameters:
  ///   - shapes: the shape of each sample.
  ///   - seed: the seed of all random numbers.
  ///   - referenceFrames: the number of frames of video references; nil for that of their clips.
  ///   - pack: the transformer of a split pack, whose text features have the widths of their
  ///     modalities; nil for the tiny model.
  init(
    _ shapes: [Shape], seed: UInt64 = 1, referenceFrames: Int? = nil, pack: TinyTransformer? = nil
  ) throws {
    scratch = try ScratchFolder()
    if let pack {
      let vae = scratch.file("vae.safetensors")
      (modelPath, videoVAEPath) = (scratch.file("transformer.safetensors"), vae)
      try pack.write(to: modelPath, seed: 5)
      try TinyVideoVAE().write(to: vae, seed: 6)
    } else {
      (modelPath, videoVAEPath) = (try TinyModelFiles.ltx2().checkpoint, nil)
    }
    let generator = try Generator(seed: seed)
    let sizes = pack ?? TinyTransformer()
    for (index, shape) in shapes.enumerated() {
      let name = "clip-\(index)"
      func latents(_ folder: String, _ size: [Int]) throws {
        try write(
          "\(folder)/\(name)",
          [
            ("latents", generator.normal([sizes.videoChannels] + size)),
            ("num_frames", Tensor([size[0]])),
            ("height", Tensor([size[1]])), ("width", Tensor([size[2]])),
            ("fps", Tensor([shape.fps])),
          ])
      }
      func audio(_ folder: String, _ steps: Int) throws {
        try write(
          "\(folder)/\(name)",
          [("latents", generator.normal([sizes.audioChannels / 16, steps, 16]))])
      }
      try latents("latents", shape.video)
      try latents(
        "reference_latents",
        [referenceFrames ?? shape.video[0], shape.video[1] / 2, shape.video[2] / 2])
      try audio("audio_latents", shape.audio)
      try audio("audio_reference_latents", shape.audio - 1)
      try write("video_masks/\(name)", [("mask", generator.uniform(shape.video))])
      try write("audio_masks/\(name)", [("mask", generator.uniform([shape.audio]))])
      let words = 20 + 10 * index
      try write(
        "conditions/\(name)",
        [
          (
            "video_prompt_embeds",
            generator.normal([Self.textTokens, pack?.width ?? sizes.captionWidth])
          ),
          (
            "prompt_attention_mask",
            Tensor((0..<Self.textTokens).map { $0 < Self.textTokens - words ? 0 : 1 })
          ),
        ]
          + (pack.map {
            [("audio_prompt_embeds", try generator.normal([Self.textTokens, $0.audioWidth]))]
          } ?? []))
    }
  }

  /// Adds the text features of the empty prompt, which every strategy can read.
  func writeEmptyPrompt() throws {
    let generator = try Generator(seed: 99)
    try write(
      "conditions/\(EmptyPrompt.name)",
      [
        (
          "video_prompt_embeds",
          generator.normal([Self.textTokens, TinyTransformer().captionWidth])
        ),
        (
          "prompt_attention_mask",
          Tensor((0..<Self.textTokens).map { $0 < Self.textTokens - 1 ? 0 : 1 })
        ),
      ])
  }

  /// Replaces every caption's features with the empty prompt's.
  func replaceCaptionsByEmptyPrompt() throws {
    let folder = scratch.file("cache/conditions")
    let empty = "\(folder)/\(EmptyPrompt.name).safetensors"
    for file in try FileManager.default.contentsOfDirectory(atPath: folder)
    where file.hasPrefix("clip-") {
      try FileManager.default.removeItem(atPath: "\(folder)/\(file)")
      try FileManager.default.copyItem(atPath: empty, toPath: "\(folder)/\(file)")
    }
  }

  /// Sets the repeats of samples by name.
  func writeRepeats(_ counts: [String: Int]) throws {
    try JSONEncoder().encode(counts).write(
      to: URL(fileURLWithPath: scratch.file("cache/\(SampleRepeats.fileName)")))
  }

  private func write(_ name: String, _ tensors: [(String, Tensor)]) throws {
    let path = scratch.file("cache/\(name).safetensors")
    try FileManager.default.createDirectory(
      atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
    try writeSafetensors(
      tensors.map { (key: $0, tensor: $1) }, metadata: [:], to: path, isDurable: false)
  }

  /// A run of one step without clipping, in float32.
  func configuration(
    _ strategy: TrainingStrategy, batch: Int = 1, accumulation: Int = 1, steps: Int = 1,
    dropout: Double = 0
  ) -> TrainingConfiguration {
    var c = TrainingConfiguration()
    (c.model.modelPath, c.model.videoVAEPath) = (modelPath, videoVAEPath)
    c.lora = .init(rank: 4, alpha: 8, dropout: dropout)
    c.trainingStrategy = strategy
    c.optimization.steps = steps
    c.optimization.batchSize = batch
    c.optimization.gradientAccumulationSteps = accumulation
    c.optimization.maxGradNorm = 0
    c.optimization.learningRate = 1e-3
    c.acceleration.mixedPrecisionMode = .no
    c.data.preprocessedDataRoot = scratch.file("cache")
    c.data.numDataloaderWorkers = 0
    c.outputDir = scratch.file("run-\(UUID().uuidString)")
    return c
  }
}

extension TrainingConfiguration.LoRA {
  init(rank: Int, alpha: Int, dropout: Double) {
    self.init()
    (self.rank, self.alpha, self.dropout) = (rank, alpha, dropout)
  }
}

extension Trainer {
  /// Fills B of all adapters with random numbers, so that A has gradients and the adapters have an
  /// effect.
  func randomiseAdapters(seed: UInt64 = 3) throws {
    let generator = try Generator(seed: seed)
    try withoutGrad {
      for parameter in parameters where parameter.key.hasSuffix("lora_B.weight") {
        try parameter.tensor.copy_(generator.normal(parameter.tensor.shape) * 0.1)
      }
    }
  }
}

/// Strategies by name, of all kinds.
enum Strategies {
  static func flexible(
    _ video: [Condition<CachedSource>]? = nil, _ audio: [Condition<CachedSource>]? = nil,
    frozenVideo: Bool = false,
    frozenAudio: Bool = false
  ) -> TrainingStrategy {
    .flexible(
      FlexibleStrategy(
        video: video.map {
          ModalityStrategy(isGenerated: !frozenVideo, latentsFolder: "latents", conditions: $0)
        },
        audio: audio.map {
          ModalityStrategy(
            isGenerated: !frozenAudio, latentsFolder: "audio_latents", conditions: $0)
        }))
  }

  static func textToVideo(_ probability: Double, withAudio: Bool) -> TrainingStrategy {
    var older = TextToVideoStrategy()
    older.firstFrameConditioningP = probability
    older.withAudio = withAudio
    return .textToVideo(older)
  }

  static let reference = Condition<CachedSource>.reference(
    folder: "reference_latents", probability: 1)
  static let videoMask = Condition<CachedSource>.mask(folder: "video_masks", probability: 1)

  /// All kinds of conditions, each with a probability.
  static let everything = flexible(
    [
      .firstFrame(probability: 0.5), .mask(folder: "video_masks", probability: 0.5),
      .reference(folder: "reference_latents", probability: 0.5),
    ],
    [
      .prefix(latentFrames: 2, probability: 0.5),
      .mask(folder: "audio_masks", probability: 0.5),
      .reference(folder: "audio_reference_latents", probability: 0.5),
    ])

  static let all: [(name: String, strategy: TrainingStrategy)] = [
    ("text to video", textToVideo(0.5, withAudio: false)),
    ("text to video with audio", textToVideo(0.5, withAudio: true)),
    ("video to video", .videoToVideo(VideoToVideoStrategy())),
    ("video", flexible([])), ("sound", flexible(nil, [])), ("both", flexible([], [])),
    ("first frame", flexible([.firstFrame(probability: 1)])),
    (
      "prefix and suffix",
      flexible([
        .prefix(latentFrames: 1, probability: 1), .suffix(latentFrames: 1, probability: 1),
      ])
    ),
    (
      "crop",
      flexible([
        .crop(PixelRegion(top: 0, left: 0, bottom: 64, right: 32), probability: 1)
      ])
    ),
    ("mask", flexible([videoMask])), ("reference", flexible([reference])),
    ("audio to video", flexible([.firstFrame(probability: 1)], [], frozenAudio: true)),
    ("video to audio", flexible([reference], [], frozenVideo: true)),
    ("everything", everything),
  ]
}

/// An optimizer that keeps the gradients and does not change the weights.
final class GradientRecorder: Optimizer {
  let groups: [ParameterGroup]
  private(set) var gradients: [[String: Tensor]] = []

  init(_ optimizer: any Optimizer) { groups = optimizer.groups }

  func step(_ gradients: [String: Tensor], learningRates: [Double]) throws {
    self.gradients.append(try gradients.mapValues { try $0.clone() })
  }

  var state: [(key: String, tensor: Tensor)] { [] }
  func restore(_ load: @escaping (String) throws -> Tensor) throws {}
}
