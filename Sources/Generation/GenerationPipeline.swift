// B batch, C latent channels, F H W latent frames, rows, columns, T tokens, S text tokens, W
// context width.

import LTX
import LoRAFiles
import Media
import NN
import Support
import Torch

/// Runs a plan stage by stage, with one stage's models in memory at a time. Several prompts go
/// through each stage together, so that each model is loaded once.
///
/// All random numbers of a result come from one generator on the CPU, in float32. The same seed
/// gives the same bytes on the same device and number of threads, the same noise on every device,
/// and the same result for a prompt whether it is generated alone or with others.
public struct GenerationPipeline {
  /// Called when a stage starts and after each unit of it. An error that it throws ends the
  /// generation; incomplete files don't appear.
  public typealias Report = (GenerationProgress) throws -> Void

  let plan: GenerationPlan
  /// Nil if all models are shared.
  let memory: GenerationMemory?
  let shared: SharedModels?

  /// - Parameter memory: The result of `plan.memory()`; nil makes that plan.
  /// - Throws: The errors of `plan.memory()`.
  public init(_ plan: GenerationPlan, _ memory: GenerationMemory? = nil) throws {
    self.plan = plan
    self.memory = try memory ?? plan.memory()
    shared = nil
  }

  /// - Parameter shared: models to use instead of loading them for each stage; the plan's LoRAs are
  ///   then ignored.
  public init(_ plan: GenerationPlan, sharing shared: SharedModels) {
    self.plan = plan
    memory = nil
    self.shared = shared
  }

  /// The data that stages pass to each other.
  struct State {
    var inputs = EncodedInputs()
    var results: [Result]
  }

  /// The result of one prompt.
  struct Result {
    let generator: Generator
    /// [1, C, F, H, W]
    var video: Tensor?
    /// [1, Z, T, N]
    var audio: Tensor?
    var audioClip: AudioClip?
    /// The generated keyframes by their pixel frames: [1, C, 1, H, W].
    var keyframes: [Int: Tensor] = [:]
    /// The first stage's video, which the detailing recipe refers to: [1, C, F, H, W].
    var firstStage: Tensor?
  }

  typealias Advance = (_ done: Int, _ total: Int) throws -> Void

  /// Generates the plan's outputs.
  ///
  /// - Throws: The errors of models and writers; the outputs that were completed before the error
  ///   remain, and nothing else is written to the outputs' paths.
  public func run(report: Report = { _ in }) throws {
    try withInference {
      let encoder = InputEncoder(
        plan.checkpoint, plan.models, memory?.textEncoder ?? plan.models.memory.unplanned)
      let prompts = plan.inputs.prompts
      let contexts = try encoder.contexts(of: prompts) {
        try report(GenerationProgress(stage: .encodePrompts(prompts), done: $0, total: $1))
      }
      for part in try plan.parts(contexts) {
        var inputs = [part.inputs]
        try encoder.encodeMedia(of: [part.plan], into: &inputs, report: report)
        try GenerationPipeline(part.plan, memory).run(inputs[0], report: report)
      }
    }
  }

  /// Generates the plan's outputs from encoded inputs: the stages after encoding.
  ///
  /// - Throws: The same errors as `run(report:)`.
  public func run(_ inputs: EncodedInputs, report: Report = { _ in }) throws {
    try withInference {
      try withoutActuallyEscaping(report) { report in
        try run(inputs) { stage in
          { try report(GenerationProgress(stage: stage, done: $0, total: $1)) }
        }
      }
    }
  }

  private func run(
    _ inputs: EncodedInputs, advance: (GenerationStage) -> Advance
  ) throws {
    var state = try start(inputs)
    for sampling in plan.samplings {
      if let path = sampling.upsampler { try upsample(path, &state, advance(.upsample)) }
      try sample(sampling, &state, advance(.sample(refines: sampling.refines)))
    }
    for round in plan.detailing?.rounds ?? [] { try addFrames(round, &state, advance(.addFrames)) }
    try trim(&state)
    guard let output = plan.output else { return }
    if output.decodesAudio { try decodeAudio(&state, advance(.decodeAudio)) }
    switch output.frames {
    case .decoded(let tiling): try decodeVideo(tiling, &state, advance(.decodeVideo))
    case .copied(let path): try copyVideo(path, state, advance(.copyVideo))
    case nil: try writeAudio(state, advance(.writeAudio))
    }
  }

  func start(_ inputs: EncodedInputs) throws -> State {
    State(
      inputs: inputs,
      results: try plan.outputs.map { _ in Result(generator: try Generator(seed: plan.seed)) }
    )
  }

  // MARK: Stages

  func sample(
    _ sampling: GenerationPlan.Sampling, _ state: inout State, _ advance: Advance
  ) throws {
    let steps = sampling.sigmas.count - 1
    let total = steps * state.results.count
    try advance(0, total)
    var sampler = Sampler(
      transformer: try transformer(of: sampling), method: sampling.method,
      autocast: shared?.autocast)
    for index in state.results.indices {
      let result = state.results[index]
      let video: SampledModality? = try sampling.video.map {
        try start($0, sampling, result, state, prompt: index)
      }
      let audio: SampledModality? = try sampling.audio.map {
        try start($0, sampling, result, state, prompt: index)
      }
      sampler.ancestral =
        sampling.isAncestral
        ? try AncestralNoise(seed: plan.seed &+ AncestralNoise.seedOffset) : nil
      let end = try sampler.sample(
        PerModality(video: video, audio: audio), sigmas: sampling.sigmas
      ) { step, samples in
        for modality in Modality.allCases {
          try requireFinite(samples[modality], modality, step: step, of: steps)
        }
        try advance(index * steps + step + 1, total)
      }
      if let grid = sampling.video, let sampled = end.video {
        state.results[index].keyframes = try Self.keyframes(sampled, sampling.keyframes, grid)
        state.results[index].video = try VideoTokens.unpatchify(
          resultTokens(sampled), frames: grid.frames, rows: grid.rows, columns: grid.columns)
      }
      if let grid = sampling.audio, let sampled = end.audio,
        !sampling.refines || sampling.keepsAudio
      {
        state.results[index].audio = try AudioTokens.unpatchify(
          resultTokens(sampled), channels: grid.channels)
      }
    }
  }

  func transformer(of sampling: GenerationPlan.Sampling) throws -> Transformer {
    try shared?.transformer
      ?? plan.checkpoint.transformer(
        sampling.loras, plan.models.fusesLoRAs ? .fused : .separate,
        modalities: sampling.modalities,
        dtype: plan.models.dtype, device: plan.models.device,
        storage: plan.models.quantization?.storage() ?? .asStored,
        placements: memory?.samplings[sampling.index] ?? plan.models.memory.unplanned)
  }

  private func start(
    _ grid: VideoGrid, _ sampling: GenerationPlan.Sampling, _ result: Result, _ state: State,
    prompt: Int
  ) throws -> SampledModality {
    let frozen = state.inputs.frozenVideo[sampling.index]
    var conditions = state.inputs.videoConditions[sampling.index] ?? []
    conditions += try detailConditions(result, sampling)
    if !sampling.keyframes.isEmpty, !sampling.refines {
      conditions.append(.generatedKeyframes(frames: sampling.keyframes))
    }
    let sequence = try grid.sequence(
      conditions,
      start: frozen ?? (sampling.refines ? result.video?.to(.cpu, .float32) : nil))
    return try start(
      sequence, sampling, result, state, prompt: prompt, of: .video, isFrozen: frozen != nil)
  }

  private func start(
    _ grid: AudioGrid, _ sampling: GenerationPlan.Sampling, _ result: Result, _ state: State,
    prompt: Int
  ) throws -> SampledModality {
    var grid = grid
    // Given audio may be shorter than the video, and rounding may add a frame.
    if let frozen = state.inputs.frozenAudio { grid.frames = frozen.size(2) }
    let sequence = try grid.sequence(
      state.inputs.audioConditions,
      start: state.inputs.frozenAudio ?? (sampling.refines ? result.audio?.to(.cpu, .float32) : nil)
    )
    return try start(
      sequence, sampling, result, state, prompt: prompt, of: .audio,
      isFrozen: state.inputs.frozenAudio != nil)
  }

  func start(
    _ sequence: LatentSequence, _ sampling: GenerationPlan.Sampling, _ result: Result,
    _ state: State,
    prompt: Int, of modality: Modality, isFrozen: Bool
  ) throws -> SampledModality {
    let contexts = state.inputs.contexts
    guard let positive = contexts[prompt].byModality[modality] else {
      preconditionFailure("a modality without a context")
    }
    // A modality that is given completely keeps its prompt in all passes, as upstream.
    let negative =
      isFrozen || contexts.count == state.results.count
      ? nil : contexts[state.results.count].byModality[modality]
    let (device, dtype) = (plan.models.device, plan.models.dtype)
    // A given modality has no noise, and uses no random numbers.
    let noise =
      isFrozen
      ? try Tensor.zeros(sequence.clean.shape, dtype: dtype, device: device)
      : try result.generator.normal(sequence.clean.shape).to(device, dtype)
    return try SampledModality(
      noise: noise, sequence: sequence.to(device, dtype), context: positive.to(device, dtype),
      negativeContext: negative?.to(device, dtype), guidance: sampling.guidance[modality],
      noiseLevel: sampling.refines ? Double(sampling.sigmas[0]) : 1, isFrozen: isFrozen)
  }

  /// The result's own tokens: [1, T, C].
  func resultTokens(_ sampled: SampledModality) throws -> Tensor {
    try sampled.latent.narrow(1, 0, sampled.sequence.targetCount)
  }

  /// Ends sampling at the first step after which a modality isn't finite, because later steps can't
  /// recover.
  func requireFinite(
    _ sampled: SampledModality?, _ modality: Modality, step: Int, of steps: Int
  ) throws {
    guard let sampled, try !resultTokens(sampled).isAllFinite() else { return }
    throw Issue(
      ["sampling"], "the \(modality) latents are not finite after step \(step + 1) of \(steps)",
      suggestion:
        "Lower the guidance scales or the LoRAs' strength, or compute in float32. If that "
        + "does not help, the transformer's weights or the LoRA are damaged.")
  }

  func upsample(_ path: String, _ state: inout State, _ advance: Advance) throws {
    let total = state.results.count
    try advance(0, total)
    let upsampler = try LatentUpsampler(
      path: path, dtype: plan.models.dtype, device: plan.models.device)
    let statistics = try plan.checkpoint.videoLatentStatistics(device: plan.models.device)
    func upsampled(_ latent: Tensor) throws -> Tensor {
      let result = try upsampler(latent, statistics: statistics)
      try result.requireFinite(from: "latent upsampler")
      return result
    }
    let enlarges = !upsampler.configuration.isTemporal
    for index in state.results.indices {
      if enlarges, plan.detailing?.lora != nil {
        state.results[index].firstStage = state.results[index].video
      }
      state.results[index].video = try state.results[index].video.map(upsampled)
      // Keyframes are single frames, which have no time to upsample.
      if enlarges {
        state.results[index].keyframes = try state.results[index].keyframes.mapValues(upsampled)
      }
      try advance(index + 1, total)
    }
  }

  /// Removes the frames by which a video was padded.
  private func trim(_ state: inout State) throws {
    guard plan.detailing != nil else { return }
    let factors = try plan.checkpoint.videoCompression()
    let count = factors.latentFrames(plan.size.frames)
    for index in state.results.indices {
      state.results[index].video = try state.results[index].video.map { try $0.narrow(2, 0, count) }
      state.results[index].firstStage = nil
    }
  }

  private func decodeAudio(_ state: inout State, _ advance: Advance) throws {
    let total = state.results.count
    try advance(0, total)
    func load() throws -> AudioDecoder {
      try plan.checkpoint.audioDecoder(dtype: plan.models.dtype, device: plan.models.device)
    }
    func loadVocoder() throws -> Vocoder { try plan.checkpoint.vocoder(device: plan.models.device) }
    let decoder = try shared?.audioDecoder(load) ?? load()
    let vocoder = try shared?.vocoder(loadVocoder) ?? loadVocoder()
    for index in state.results.indices {
      guard let latent = state.results[index].audio else {
        preconditionFailure("no audio to decode")
      }
      let spectrogram = try decoder(latent)
      try spectrogram.requireFinite(from: "audio decoder")
      let waveform = try vocoder(spectrogram)
      try waveform.requireFinite(from: "vocoder")
      let channels = try AudioTensors.channels(waveform)
      // A padded video's audio is longer than the result.
      let seconds = plan.detailing == nil ? Double.infinity : plan.size.seconds
      let count = min(
        channels[0].count,
        Int(min(seconds * Double(vocoder.sampleRate), Double(channels[0].count)).rounded()))
      state.results[index].audioClip = AudioClip(
        left: Array(channels[0].prefix(count)),
        right: Array(channels[channels.count - 1].prefix(count)), sampleRate: vocoder.sampleRate)
      state.results[index].audio = nil
      try advance(index + 1, total)
    }
  }
}

extension Tensor {
  /// Checks the output of a model, because NaN would look like a black video or silent audio.
  ///
  /// - Parameter stage: The component that computed this: `video decoder`, `vocoder`.
  /// - Throws: `Issue` if a value is NaN or infinite.
  public func requireFinite(from stage: String) throws {
    guard try !isAllFinite() else { return }
    throw Issue(
      [.name(stage)],
      "the output has NaN or infinite values (in \(dtype)): the weights are damaged"
        + (dtype == .float32 ? "" : ", or too large for \(dtype)"),
      suggestion: dtype == .float32
        ? "Download the file again." : "Compute in float32, or download the file again.")
  }
}
