// S text tokens, W context width, C latent channels, F H W latent frames, rows, columns, Z audio
// channels, T audio latent frames, N frequency bins.

import LTX
import Media
import NN
import Torch

/// The encoded prompts and media of a generation.
public struct EncodedInputs: Sendable {
  /// The contexts of the prompts, with the negative prompt's last if there is one.
  var contexts: [TextContexts] = []
  /// The conditions of each sampling, keyed by its index.
  var videoConditions: [Int: [LatentCondition]] = [:]
  /// A video that stays unchanged, by the index of the sampling: [1, C, F, H, W].
  var frozenVideo: [Int: Tensor] = [:]
  /// The references that are shown beside the result.
  var shownReferences: [ShownReference] = []
  var audioConditions: [LatentCondition] = []
  /// Audio that stays unchanged: [1, Z, T, N].
  var frozenAudio: Tensor?
  /// The same audio as a clip.
  var givenAudio: AudioClip?

  public init() {}

  /// - Parameter contexts: The contexts of the prompts in a plan's `inputs`, in their order.
  public init(contexts: [TextContexts]) { self.contexts = contexts }
}

/// Encodes the inputs of generations. Each method loads its models and frees them before it
/// returns.
public struct InputEncoder: Sendable {
  typealias Advance = (_ done: Int, _ total: Int) throws -> Void

  let checkpoint: Checkpoint
  let models: GenerationModels
  /// The placements of the text encoder's layers.
  let placements: WeightPlacements

  /// - Throws: `Issue` or `TensorFileError` for a checkpoint or a text encoder that can't be read,
  ///   and if the text encoder does not fit in memory.
  public init(_ models: GenerationModels) throws {
    let checkpoint = try Checkpoint(models.files)
    let plan = try models.memory.limitBytes(on: models.device).flatMap {
      try checkpoint.textEncoderPlan(
        at: models.files.textEncoder, dtype: models.dtype, device: models.device,
        storage: models.textEncoderStorage, models.memory, limitBytes: $0)
    }
    self.init(checkpoint, models, plan?.placements ?? models.memory.unplanned)
  }

  init(
    _ checkpoint: Checkpoint, _ models: GenerationModels,
    _ placements: WeightPlacements = .resident
  ) {
    self.checkpoint = checkpoint
    self.models = models
    self.placements = placements
  }

  /// Encodes prompts to the contexts that the transformer attends to, on the models' device.
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

  /// Encodes prompts one at a time, because the states of all layers take memory. This is a
  /// separate function so that the text encoder is freed when it returns.
  private func features(of prompts: [String], _ advance: Advance) throws -> [TextFeatures] {
    try advance(0, prompts.count)
    let encoder = try checkpoint.promptEncoder(
      dtype: models.dtype, device: models.device, storage: models.textEncoderStorage,
      placements: placements)
    return try prompts.enumerated().map { index, prompt in
      let features = try encoder([prompt])
      for (_, values) in features.byModality.pairs {
        try values.requireFinite(from: "text encoder")
      }
      try advance(index + 1, prompts.count)
      return features
    }
  }

  /// Encodes images, clips and audio files of several plans into their inputs.
  ///
  /// - Precondition: There are as many inputs as plans.
  public func encodeMedia(
    of plans: [GenerationPlan], into inputs: inout [EncodedInputs],
    report: (GenerationProgress) throws -> Void = { _ in }
  ) throws {
    precondition(plans.count == inputs.count, "inputs for each plan")
    var videos: [(plan: Int, encoding: GenerationPlan.VideoEncoding)] = []
    var audio: [(plan: Int, encoding: GenerationPlan.AudioEncoding)] = []
    for (index, plan) in plans.enumerated() {
      videos += plan.inputs.videos.map { (index, $0) }
      audio += plan.inputs.audio.map { (index, $0) }
    }
    if !videos.isEmpty {
      try encode(videos, into: &inputs) {
        try report(GenerationProgress(stage: .encodeVideos, done: $0, total: $1))
      }
    }
    if !audio.isEmpty {
      try encode(audio, into: &inputs) {
        try report(GenerationProgress(stage: .encodeAudio, done: $0, total: $1))
      }
    }
  }

  func encode(
    _ encodings: [(plan: Int, encoding: GenerationPlan.VideoEncoding)],
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
    _ encodings: [(plan: Int, encoding: GenerationPlan.AudioEncoding)],
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
