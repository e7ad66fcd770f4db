import Foundation
import LTX
import Media
import NN
import Support
import Torch

/// A request that has been checked against its models: inputs to encode, samplings to run, an
/// output to write.
///
/// A plan finds every problem that can be found without loading a model: it has read headers,
/// configurations, shapes, names and images, and built every component once on the files' memory
/// maps.
public struct GenerationPlan: Sendable {
  let request: GenerationRequest
  public let models: GenerationModels
  public var seed: UInt64 { request.seed }
  /// The output paths, one for each prompt.
  public private(set) var outputs: [String]
  /// The size of the result.
  public let size: OutputSize
  /// The size of the result with its references beside it.
  let imageSize: OutputSize
  /// Nil without the detailing recipe.
  let detailing: DetailingPlan?
  public private(set) var inputs: Inputs
  /// One sampling, or one at a smaller size and one that refines the upsampled result.
  public let samplings: [Sampling]
  /// Nil for a plan that only samples.
  public private(set) var output: Output?
  /// Notes for the user that are not errors.
  public let notes: [String]
  let checkpoint: Checkpoint

  /// The size of a result, in pixels and pixel frames.
  public struct OutputSize: Sendable, Equatable {
    public var width: Int
    public var height: Int
    public var frames: Int
    public var frameRate: Rational

    public var seconds: Double { Double(frames) / frameRate.value }
  }

  /// - Parameters:
  ///   - output: The output file; with several prompts, each file's name gets the prompt's number.
  ///   - checksModels: Builds each component once on the files' memory maps; false for models that
  ///     are checked elsewhere.
  /// - Throws: `Issue` for a request that can't be fulfilled; `Issue`, `WeightError` or
  ///   `TensorFileError` for models that can't be used; `TorchError` for a device that doesn't
  ///   exist.
  public init(
    _ request: GenerationRequest, models: GenerationModels, output: String,
    checksModels: Bool = true
  ) throws {
    try RequestCheck.numbers(request)
    _ = try models.quantization?.storage()
    let kind = try OutputKind(path: output)
    let checkpoint: Checkpoint
    do {
      checkpoint = try Checkpoint(models.files)
      try checkpoint.require("transformer", "vae")
    } catch {
      throw Issue(describing: error).within("checkpoint")
    }
    let model = try ModelShape(checkpoint)
    let modalities = try model.modalities(request, kind)
    let upsampler = try models.upsampler.map { try UpsamplerShape(path: $0, model) }
    try Self.checkRecipe(request, models, kind)
    try Self.checkAbilities(request, checkpoint, kind, modalities)
    try RequestCheck.conditions(request, kind)
    let defaults = GenerationDefaults(
      version: checkpoint.version, videoVAEVersion: checkpoint.version(of: .videoVAE),
      blocks: model.transformer.blocks, method: request.method, isTwoStage: upsampler != nil,
      isDistilled: request.isDistilled)
    var notes: [String] = []
    let requested = try SizeChoice(request, defaults, model, upsampler, kind).resolve(&notes)
    try models.device.prepare()
    let loras = try LoRASet(
      models, defaults, checkpoint: checkpoint, modalities: modalities, notes: &notes)
    let detailing = try request.detailingRounds.map {
      try DetailingPlan(
        rounds: $0, request, models, checkpoint, requested, model.grid(requested),
        loras: loras.first)
    }
    // The stages' size is padded, the result's has the rounds' frames.
    var (staged, size) = (requested, requested)
    if let detailing {
      staged.frames = detailing.frames
      (size.frames, size.frameRate) = detailing.result
    }
    outputs = try OutputKind.paths(output, count: request.prompts.count)
    var imageSize = size
    for case .reference(_, isShown: true) in request.conditions.map(\.kind) {
      imageSize.width += size.width
    }
    let inputs = Self.inputs(request, models)
    for path in outputs {
      try OutputSink.check(path: path, kind: kind, size: imageSize, inputs: inputs)
    }
    let guidance = try PerModality { modality in
      try request.guidance[modality].guidance(defaults: defaults.guidance[modality])
        .checked(model, modality)
    }

    var conditions = try ConditionPlan(request, defaults, requested, loras.referenceScale)
    let refersToVideos = request.conditions.contains { $0.modality == .video && $0.isReference }

    let keyframes =
      try detailing?.keyframes ?? request.generatedKeyframes.indices(of: size.frames)
    let full = model.grid(staged)
    let grids = try upsampler.map { [try $0.firstGrid(for: full), full] } ?? [full]
    let audioGrid = modalities.contains(.audio) ? try model.audioGrid(seconds: staged.seconds) : nil
    var samplings: [Sampling] = []
    for (index, grid) in grids.enumerated() {
      let refines = index > 0
      let isPlain = refines || request.isDistilled
      let tokens = request.method == .res2s ? grid.frames * grid.rows * grid.columns : 4096
      samplings.append(
        Sampling(
          index: index, video: modalities.contains(.video) ? grid : nil, audio: audioGrid,
          sigmas: refines
            ? NoiseSchedule.distilledSecondStage
            : request.isDistilled
              ? NoiseSchedule.distilled
              : try NoiseSchedule.shifted(steps: request.steps ?? defaults.steps, tokens: tokens),
          method: request.method,
          isAncestral: defaults.isAncestral && request.isDistilled && request.method == .euler
            && !refines && detailing == nil,
          guidance: PerModality(
            video: isPlain || conditions.givenVideo != nil
              ? Guidance() : guidance.video.within(modalities),
            audio: isPlain || conditions.givenAudio != nil
              ? Guidance() : guidance.audio.within(modalities)),
          loras: refines
            ? loras.refining(refersToVideos: refersToVideos)
              + [detailing?.lora].compactMap(\.self) : loras.first,
          keyframes: refines && detailing == nil ? [] : keyframes,
          upsampler: refines ? upsampler?.path : nil,
          keepsAudio: request.isDistilled && detailing == nil))
      if modalities.contains(.video) {
        try conditions.addVideos(sampling: index, grid: grid, refines: refines, &notes)
      }
    }
    if let audioGrid { try conditions.addAudio(audioGrid, &notes) }
    if checksModels {
      let doubt = try Self.checkComponents(
        models, checkpoint, samplings, conditions, modalities, decodes: kind != .audio,
        decoderSteps: request.decoderSteps)
      notes += [doubt].compactMap { $0 }
      if request.duration != nil { _ = try checkpoint.durationHead() }
    }

    let negative = samplings.contains(where: \.usesNegativePrompt) ? [request.negativePrompt] : []
    self.inputs = Inputs(
      prompts: request.prompts + negative, videos: conditions.videos, audio: conditions.audio)
    self.samplings = samplings
    self.output = Output(
      decodesAudio: modalities.contains(.audio) && conditions.givenAudio == nil,
      frames: kind == .audio
        ? nil
        : try conditions.givenVideo.map { .copied(path: $0) }
          ?? .decoded(Self.tiling(size, models, checkpoint)))
    self.models = models
    self.checkpoint = checkpoint
    self.size = size
    self.imageSize = imageSize
    self.detailing = detailing
    self.notes = notes
    self.request = request
  }

  /// The same generation with other output paths, one for each prompt, with the same extension.
  public func writing(to outputs: [String]) -> GenerationPlan {
    precondition(outputs.count == self.outputs.count, "one output for each prompt")
    var copy = self
    copy.outputs = outputs
    return copy
  }

  /// The same generation of only a share of the prompts. Their files are those of the whole
  /// generation, because every result has random numbers of its own.
  public func taking(_ share: WorkShare) -> GenerationPlan {
    var copy = self
    let own = share.items(of: outputs.count)
    copy.outputs = own.map { outputs[$0] }
    copy.inputs.prompts = own.map { inputs.prompts[$0] } + inputs.prompts[outputs.count...]
    return copy
  }

  /// The same generation without decoding and writing.
  public func samplingOnly() -> GenerationPlan {
    var copy = self
    copy.output = nil
    return copy
  }

  /// All files that are read; none may be overwritten.
  private static func inputs(_ request: GenerationRequest, _ models: GenerationModels) -> [String] {
    var paths = models.files.checkpointFiles + models.loras.map(\.path)
    paths += [
      models.files.textEncoder, models.upsampler, models.distilledLoRA, models.temporalUpsampler,
      models.detailingLoRA?.path,
    ].compactMap { $0 }
    for condition in request.conditions {
      paths += [condition.path, condition.maskPath].compactMap { $0 }
    }
    return paths
  }

  /// Checks that the recipe, the models and the request fit together.
  private static func checkRecipe(
    _ request: GenerationRequest, _ models: GenerationModels, _ kind: OutputKind
  ) throws {
    if kind == .audio, models.upsampler != nil {
      throw Issue(
        ["upsampler"], "a .wav file has no video to upsample", suggestion: "Leave it out.")
    }
    if request.isDistilled {
      if request.steps != nil {
        throw Issue(
          ["steps"],
          "a distilled model always takes \(NoiseSchedule.distilled.count - 1) steps",
          suggestion: "Leave it out.")
      }
      guard request.guidance.video.isEmpty, request.guidance.audio.isEmpty else {
        throw Issue(
          ["isDistilled"], "a distilled model is sampled without guidance",
          suggestion: "Leave the guidance scales out.")
      }
    } else if models.upsampler != nil, models.distilledLoRA == nil {
      throw Issue(
        ["upsampler"], "the second stage takes few steps, which needs a distilled model",
        suggestion: "Add a distilled LoRA, or use a distilled checkpoint and say so.")
    }
    if request.detailingRounds == nil {
      for (name, path) in [
        ("detailingLoRA", models.detailingLoRA?.path),
        ("temporalUpsampler", models.temporalUpsampler),
      ] where path != nil {
        throw Issue(
          [.name(name)], "is for the detailing recipe",
          suggestion: "Leave it out, or ask for the recipe.")
      }
    }
    if models.distilledLoRA != nil, models.upsampler == nil {
      throw Issue(
        ["distilledLoRA"], "is for the second stage, which needs a spatial upsampler",
        suggestion: "Add an upsampler, or use it as an ordinary LoRA.")
    }
  }

  /// Checks the parts of a request that only some models can fulfill.
  private static func checkAbilities(
    _ request: GenerationRequest, _ checkpoint: Checkpoint, _ kind: OutputKind,
    _ modalities: Set<Modality>
  ) throws {
    if request.generatedKeyframes != .count(0) {
      let isGenerated = !request.conditions.contains { $0.modality == .video && $0.isWhole }
      guard kind == .video, modalities.contains(.video), isGenerated else {
        throw Issue(
          ["generatedKeyframes"], "the result has no generated video", suggestion: "Leave it out.")
      }
      guard try checkpoint.supportsGeneratedKeyframes else {
        throw Issue(
          ["generatedKeyframes"],
          "the transformer of \(checkpoint.source.name) was not trained to generate keyframes "
            + "(`use_keyframes_abs_pos_embedding` is not set)", suggestion: "Leave it out.")
      }
    }
    if request.duration != nil {
      guard kind != .image else {
        throw Issue(["duration"], "an image has no length", suggestion: "Leave it out.")
      }
      do {
        try checkpoint.require("duration_head")
      } catch {
        throw Issue(describing: error).within("duration")
      }
    }
  }

  /// Builds each component on the memory map of its file, in the file's own dtype: this reads
  /// almost nothing, and finds every weight that is missing or doesn't fit.
  ///
  /// - Returns: A warning about the text encoder, or nil.
  private static func checkComponents(
    _ models: GenerationModels, _ checkpoint: Checkpoint, _ samplings: [Sampling],
    _ conditions: ConditionPlan,
    _ modalities: Set<Modality>, decodes: Bool, decoderSteps: Int?
  ) throws -> String? {
    let doubt = try checkpoint.requireTextEncoder()
    // Unlike the pipeline's encoder, it is a view of the unchanged file: quantizing would read all
    // of it.
    _ = try checkpoint.promptEncoder()
    _ = try checkpoint.textConnectors(modalities: modalities)
    for sampling in samplings {
      _ = try checkpoint.transformer(sampling.loras, modalities: modalities)
    }
    if decodes, modalities.contains(.video) {
      _ = try checkpoint.videoDecoder(steps: decoderSteps)
    }
    if !conditions.videos.isEmpty { _ = try checkpoint.videoEncoder() }
    if modalities.contains(.audio), conditions.givenAudio == nil {
      _ = try checkpoint.audioDecoder()
      _ = try checkpoint.vocoder()
    }
    if !conditions.audio.isEmpty { _ = try checkpoint.audioEncoder() }
    return doubt
  }
}

extension Guidance {
  /// The guidance without modality isolation when only one modality is generated: there is nothing
  /// to isolate it from.
  func within(_ modalities: Set<Modality>) -> Guidance {
    guard modalities != .both else { return self }
    var copy = self
    copy.modality = 1
    return copy
  }
}
