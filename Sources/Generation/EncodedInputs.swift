// S text tokens, W context width, C latent channels, F H W latent frames, rows, columns, Z audio
// channels, T audio latent frames, N frequency bins.

import LTX
import Media
import NN
import Torch

/// What the prompts and the media of a generation were encoded to.
public struct EncodedInputs: Sendable {
  /// For each prompt, the negative one last if there is one.
  var contexts: [TextContexts] = []
  /// For each sampling.
  var videoConditions: [Int: [LatentCondition]] = [:]
  /// A video that stays as it is, for each sampling: [1, C, F, H, W].
  var frozenVideo: [Int: Tensor] = [:]
  /// To be put beside the result.
  var shownReferences: [ShownReference] = []
  var audioConditions: [LatentCondition] = []
  /// A sound that stays as it is: [1, Z, T, N].
  var frozenAudio: Tensor?
  /// That sound as it was given.
  var givenAudio: AudioClip?

  public init() {}

  /// - Parameter contexts: of a plan's prompts, in their order: see `GenerationPlan.prompts`.
  public init(contexts: [TextContexts]) { self.contexts = contexts }
}

/// Encodes what generations are given. Each method loads its models and frees them before it
/// returns.
public struct InputEncoder: Sendable {
  typealias Advance = (_ done: Int, _ total: Int) throws -> Void

  let checkpoint: Checkpoint
  let models: GenerationModels

  /// - Throws: `ConfigurationError` or `TensorFileError` for a checkpoint that can't be read.
  public init(_ models: GenerationModels) throws {
    self.init(try Checkpoint(models.files), models)
  }

  init(_ checkpoint: Checkpoint, _ models: GenerationModels) {
    self.checkpoint = checkpoint
    self.models = models
  }

  /// Prompts to what the transformer attends to, on the models' device.
  public func contexts(
    of prompts: [String], advance: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
  ) throws -> [TextContexts] {
    let features = try features(of: prompts, advance)
    let connectors = try checkpoint.textConnectors(dtype: models.dtype, device: models.device)
    return try features.map {
      let contexts = try connectors($0)
      for context in contexts.byModality.values() {
        try context.requireFinite(from: "text connectors")
      }
      return contexts
    }
  }

  /// A function of its own, so that the text encoder is gone when it returns. One prompt at a time:
  /// the states of all layers take memory.
  private func features(of prompts: [String], _ advance: Advance) throws -> [TextFeatures] {
    try advance(0, prompts.count)
    let encoder = try checkpoint.promptEncoder(
      dtype: models.dtype, device: models.device,
      storage: models.textEncoder8bit ? .int8 : .asStored)
    return try prompts.enumerated().map { index, prompt in
      let features = try encoder([prompt])
      try features.video.requireFinite(from: "text encoder")
      try features.audio.requireFinite(from: "text encoder")
      try advance(index + 1, prompts.count)
      return features
    }
  }

  /// Pictures, clips and sounds of several plans, into the inputs that go with them.
  ///
  /// - Precondition: as many inputs as plans.
  public func encodeMedia(
    of plans: [GenerationPlan], into inputs: inout [EncodedInputs],
    report: (GenerationProgress) throws -> Void = { _ in }
  ) throws {
    precondition(plans.count == inputs.count, "inputs for each plan")
    var videos: [(plan: Int, encoding: GenerationStage.VideoEncoding)] = []
    var audio: [(plan: Int, encoding: GenerationStage.AudioEncoding)] = []
    for (index, plan) in plans.enumerated() {
      for stage in plan.stages {
        switch stage {
        case .encodeVideos(let encodings): videos += encodings.map { (index, $0) }
        case .encodeAudio(let encodings): audio += encodings.map { (index, $0) }
        default: break
        }
      }
    }
    if !videos.isEmpty {
      let stage = GenerationStage.encodeVideos(videos.map(\.encoding))
      try encode(videos, into: &inputs) {
        try report(GenerationProgress(stage: stage, done: $0, total: $1))
      }
    }
    if !audio.isEmpty {
      let stage = GenerationStage.encodeAudio(audio.map(\.encoding))
      try encode(audio, into: &inputs) {
        try report(GenerationProgress(stage: stage, done: $0, total: $1))
      }
    }
  }

  func encode(
    _ encodings: [(plan: Int, encoding: GenerationStage.VideoEncoding)],
    into inputs: inout [EncodedInputs],
    _ advance: Advance
  ) throws {
    try advance(0, encodings.count)
    let encoder = VideoConditionEncoder(
      encoder: try checkpoint.videoEncoder(dtype: models.dtype, device: models.device))
    for (index, (plan, encoding)) in encodings.enumerated() {
      switch try encoder(encoding) {
      case .condition(let condition):
        inputs[plan].videoConditions[encoding.sampling, default: []].append(condition)
      case .frozen(let latent): inputs[plan].frozenVideo[encoding.sampling] = latent
      }
      if encoding.sampling == 0, let shown = try encoder.shown(encoding) {
        inputs[plan].shownReferences.append(shown)
      }
      try advance(index + 1, encodings.count)
    }
  }

  func encode(
    _ encodings: [(plan: Int, encoding: GenerationStage.AudioEncoding)],
    into inputs: inout [EncodedInputs],
    _ advance: Advance
  ) throws {
    try advance(0, encodings.count)
    let encoder = AudioConditionEncoder(
      encoder: try checkpoint.audioEncoder(dtype: models.dtype, device: models.device))
    for (index, (plan, encoding)) in encodings.enumerated() {
      switch try encoder(encoding) {
      case .condition(let condition): inputs[plan].audioConditions.append(condition)
      case .frozen(let latent, let clip):
        (inputs[plan].frozenAudio, inputs[plan].givenAudio) = (latent, clip)
      }
      try advance(index + 1, encodings.count)
    }
  }
}
