import Foundation
import LTX
import Media
import NN
import Support
import Torch

/// A request that has been checked against its models, as stages to run.
///
/// Whatever can be known without loading a model is known when a plan exists: headers,
/// configurations, shapes, names and pictures have been read, and every component has been built
/// once on the files' memory maps.
public struct GenerationPlan: Sendable {
  public let models: GenerationModels
  public let seed: UInt64
  /// One for each prompt.
  public private(set) var outputs: [String]
  /// What is generated.
  public let size: OutputSize
  /// The result with the references beside it.
  let imageSize: OutputSize
  public private(set) var stages: [GenerationStage]
  /// What the user should know, though it is no error.
  public let notes: [String]
  let checkpoint: Checkpoint

  /// What is made, in pixels and pixel frames.
  public struct OutputSize: Sendable, Equatable {
    public var width: Int
    public var height: Int
    public var frames: Int
    public var frameRate: Rational

    public var seconds: Double { Double(frames) / frameRate.value }
  }

  /// - Parameters:
  ///   - output: the file; for several prompts, each of them adds its number to the name.
  ///   - checksModels: builds each component once on the files' memory maps. Only for models that
  ///     are checked elsewhere is it left out.
  /// - Throws: `Issue` for a request that can't be fulfilled; `ConfigurationError`,
  ///   `WeightError`, `TensorFileError` or `Issue` for models that can't be used;
  ///   `TorchError` for a device that isn't there.
  public init(
    _ request: GenerationRequest, models: GenerationModels, output: String,
    checksModels: Bool = true
  ) throws {
    try RequestCheck.numbers(request)
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
    try RequestCheck.conditions(request, kind)
    let defaults = GenerationDefaults(
      version: checkpoint.version, blocks: model.transformer.blocks, method: request.method,
      isTwoStage: upsampler != nil, isDistilled: request.isDistilled)
    var notes: [String] = []
    let size = try SizeChoice(request, defaults, model, upsampler, kind).resolve(&notes)
    outputs = try OutputKind.paths(output, count: request.prompts.count)
    var imageSize = size
    for case .reference(_, isShown: true) in request.conditions.map(\.kind) {
      imageSize.width += size.width
    }
    let inputs = Self.inputs(request, models)
    for path in outputs {
      try OutputSink.check(path: path, kind: kind, size: imageSize, inputs: inputs)
    }
    let video = try request.videoGuidance.guidance(defaults: defaults.video).checked(model, .video)
    let audio = try request.audioGuidance.guidance(defaults: defaults.audio).checked(model, .audio)

    try models.device.prepare()
    let loras = try LoRASet(
      models, defaults, checkpoint: checkpoint, modalities: modalities, notes: &notes)
    var conditions = try ConditionPlan(request, defaults, size, loras.referenceScale)
    let refersToVideos = request.conditions.contains { $0.modality == .video && $0.isReference }

    // One sampling, or one at a smaller size and one that refines what has been enlarged.
    let full = model.grid(size)
    let grids = try upsampler.map { [try $0.firstGrid(for: full), full] } ?? [full]
    let audioGrid = modalities.contains(.audio) ? try model.audioGrid(seconds: size.seconds) : nil
    var samplings: [GenerationStage.Sampling] = []
    for (index, grid) in grids.enumerated() {
      let refines = index > 0
      let isPlain = refines || request.isDistilled
      let tokens = request.method == .res2s ? grid.frames * grid.rows * grid.columns : 4096
      samplings.append(
        GenerationStage.Sampling(
          index: index, video: modalities.contains(.video) ? grid : nil, audio: audioGrid,
          sigmas: refines
            ? NoiseSchedule.distilledSecondStage
            : request.isDistilled
              ? NoiseSchedule.distilled
              : try NoiseSchedule.shifted(steps: request.steps ?? defaults.steps, tokens: tokens),
          method: request.method,
          guidance: PerModality(
            video: isPlain || conditions.givenVideo != nil
              ? Guidance() : video.within(modalities),
            audio: isPlain || conditions.givenAudio != nil
              ? Guidance() : audio.within(modalities)),
          loras: refines ? loras.refining(refersToVideos: refersToVideos) : loras.first,
          refines: refines, keepsAudio: request.isDistilled))
      if modalities.contains(.video) {
        try conditions.addVideos(sampling: index, grid: grid, refines: refines, &notes)
      }
    }
    if let audioGrid { try conditions.addAudio(audioGrid, &notes) }
    if checksModels {
      try Self.checkComponents(
        models, checkpoint, samplings, conditions, modalities, decodes: kind != .audio)
    }

    let negative = samplings.contains(where: \.usesNegativePrompt) ? [request.negativePrompt] : []
    var stages: [GenerationStage] = [.encodePrompts(request.prompts + negative)]
    if !conditions.videos.isEmpty { stages.append(.encodeVideos(conditions.videos)) }
    if !conditions.audio.isEmpty { stages.append(.encodeAudio(conditions.audio)) }
    for sampling in samplings {
      if sampling.refines, let upsampler { stages.append(.upsample(path: upsampler.path)) }
      stages.append(.sample(sampling))
    }
    if modalities.contains(.audio), conditions.givenAudio == nil { stages.append(.decodeAudio) }
    switch kind {
    case .audio: stages.append(.writeAudio)
    case .video, .image:
      if let path = conditions.givenVideo {
        stages.append(.copyVideo(path: path))
      } else {
        stages.append(.decodeVideo(.usual(for: model.factors)))
      }
    }
    self.models = models
    self.checkpoint = checkpoint
    self.size = size
    self.imageSize = imageSize
    self.stages = stages
    self.notes = notes
    seed = request.seed
  }

  /// The prompts that are encoded, the negative one last if there is one.
  public var prompts: [String] {
    for case .encodePrompts(let prompts) in stages { return prompts }
    return []
  }

  /// What of the transformer is needed.
  public var modalities: Set<Modality> {
    for case .sample(let sampling) in stages { return sampling.modalities }
    return .both
  }

  /// Whether latents of a modality are decoded.
  public var decodes: PerModality<Bool> {
    PerModality { modality in
      stages.contains { stage in
        switch stage {
        case .decodeVideo: modality == .video
        case .decodeAudio: modality == .audio
        default: false
        }
      }
    }
  }

  /// The same generation, written elsewhere: one path for each prompt, with the ending that it had
  /// before.
  public func writing(to outputs: [String]) -> GenerationPlan {
    precondition(outputs.count == self.outputs.count, "one output for each prompt")
    var copy = self
    copy.outputs = outputs
    return copy
  }

  /// The same generation without what comes after sampling: nothing is decoded or written.
  public func samplingOnly() -> GenerationPlan {
    var copy = self
    copy.stages = stages.filter { stage in
      switch stage {
      case .encodePrompts, .encodeVideos, .encodeAudio, .upsample, .sample: true
      case .decodeAudio, .decodeVideo, .copyVideo, .writeAudio: false
      }
    }
    return copy
  }

  /// All files that are read; none may be written over.
  private static func inputs(_ request: GenerationRequest, _ models: GenerationModels) -> [String] {
    var paths = models.files.checkpointFiles + models.loras.map(\.path)
    paths += [models.files.textEncoder, models.upsampler, models.distilledLoRA].compactMap { $0 }
    for condition in request.conditions {
      paths += [condition.path, condition.maskPath].compactMap { $0 }
    }
    return paths
  }

  /// What goes with what.
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
      guard request.videoGuidance.isEmpty, request.audioGuidance.isEmpty else {
        throw Issue(
          ["isDistilled"], "a distilled model is sampled without guidance",
          suggestion: "Leave the guidance scales out.")
      }
    } else if models.upsampler != nil, models.distilledLoRA == nil {
      throw Issue(
        ["upsampler"], "the second stage takes few steps, which needs a distilled model",
        suggestion: "Add a distilled LoRA, or use a distilled checkpoint and say so.")
    }
    if models.distilledLoRA != nil, models.upsampler == nil {
      throw Issue(
        ["distilledLoRA"], "is for the second stage, which needs a spatial upsampler",
        suggestion: "Add an upsampler, or use it as an ordinary LoRA.")
    }
  }

  /// Builds each component on the memory map of its file, in the file's own element type: that
  /// reads next to nothing, and finds every weight that is missing or does not fit.
  private static func checkComponents(
    _ models: GenerationModels, _ checkpoint: Checkpoint, _ samplings: [GenerationStage.Sampling],
    _ conditions: ConditionPlan,
    _ modalities: Set<Modality>, decodes: Bool
  ) throws {
    guard let textEncoder = models.files.textEncoder else {
      throw Issue(
        ["textEncoder"], "is missing", suggestion: "Give the folder or the file of a Gemma 3 model."
      )
    }
    guard FileManager.default.fileExists(atPath: textEncoder) else {
      throw Issue(
        ["textEncoder", .file(textEncoder)], "does not exist",
        suggestion: "Give the folder or the file of a Gemma 3 model.")
    }
    // Unlike the pipeline's, it is a view of the file as it is: rounding to eight bits would read
    // it all.
    _ = try checkpoint.promptEncoder()
    _ = try checkpoint.textConnectors(modalities: modalities)
    for sampling in samplings {
      _ = try checkpoint.transformer(sampling.loras, modalities: modalities)
    }
    if decodes, modalities.contains(.video) { _ = try checkpoint.videoDecoder() }
    if !conditions.videos.isEmpty { _ = try checkpoint.videoEncoder() }
    if modalities.contains(.audio), conditions.givenAudio == nil {
      _ = try checkpoint.audioDecoder()
      _ = try checkpoint.vocoder()
    }
    if !conditions.audio.isEmpty { _ = try checkpoint.audioEncoder() }
  }
}

extension Guidance {
  /// Where there is only one stream, there is nothing to isolate it from.
  func within(_ modalities: Set<Modality>) -> Guidance {
    guard modalities != .both else { return self }
    var copy = self
    copy.modality = 1
    return copy
  }
}
