// B batch, C latent channels, F H W latent frames, rows, columns, T tokens, S text tokens, W context width.

import LTX
import Media
import NN
import Torch

/// Runs the stages of a plan, one after another, with one stage's models in memory at a time. Several prompts go through
/// each stage together, so that each model is loaded once.
///
/// All random numbers of a result come from one generator on the CPU, in float32: a seed gives the same bytes again on the
/// same device and number of threads, the same noise on every device, and the same result for a prompt among others as
/// for the prompt alone.
public struct GenerationPipeline: Sendable {
  /// Called when a stage begins and after each unit of it. What it throws ends the generation; files that are not yet
  /// whole don't appear.
  public typealias Report = (GenerationProgress) throws -> Void

  let plan: GenerationPlan

  public init(_ plan: GenerationPlan) { self.plan = plan }

  /// What stages hand on.
  struct State {
    /// For each prompt, the negative one last if there is one.
    var contexts: [TextContexts] = []
    /// For each sampling.
    var videoConditions: [Int: [VideoCondition]] = [:]
    /// A video that stays as it is, for each sampling: [1, C, F, H, W].
    var frozenVideo: [Int: Tensor] = [:]
    var soundConditions: [AudioCondition] = []
    /// A sound that stays as it is: [1, Z, T, N].
    var frozenSound: Tensor?
    /// That sound as it was given.
    var givenSound: SoundClip?
    var results: [Result]
  }

  /// What is made of one prompt.
  struct Result {
    let generator: Generator
    /// [1, C, F, H, W]
    var video: Tensor?
    /// [1, Z, T, N]
    var audio: Tensor?
    var sound: SoundClip?
  }

  typealias Advance = (_ done: Int, _ total: Int) throws -> Void

  /// Generates the plan's outputs.
  ///
  /// - Throws: what models and writers throw; nothing is then at an output's path that was not before, but for results
  ///   that were written whole.
  public func run(report: Report = { _ in }) throws {
    try withInference {
      var state = State(
        results: try plan.outputs.map { _ in Result(generator: try Generator(seed: plan.seed)) })
      for stage in plan.stages {
        func advance(_ done: Int, of total: Int) throws {
          try report(GenerationProgress(stage: stage, done: done, total: total))
        }
        switch stage {
        case .encodePrompts(let prompts): state.contexts = try encode(prompts, advance)
        case .encodeVideos(let encodings): try encode(encodings, &state, advance)
        case .encodeSounds(let encodings): try encode(encodings, &state, advance)
        case .sample(let sampling): try sample(sampling, &state, advance)
        case .upsample(let path): try upsample(path, &state, advance)
        case .decodeSound: try decodeSound(&state, advance)
        case .decodeVideo(let tiling): try decodeVideo(tiling, &state, advance)
        case .copyVideo(let path): try copyVideo(path, state, advance)
        case .writeSound: try writeSound(state, advance)
        }
      }
    }
  }

  // MARK: What is given

  private func encode(_ prompts: [String], _ advance: Advance) throws -> [TextContexts] {
    let features = try features(of: prompts, advance)
    let connectors = try plan.checkpoint.textConnectors(
      dtype: plan.models.dtype, device: plan.models.device)
    return try features.map { try connectors($0) }
  }

  /// A function of its own, so that the text encoder is gone when it returns. One prompt at a time: the states of all
  /// layers take memory.
  private func features(of prompts: [String], _ advance: Advance) throws -> [TextFeatures] {
    try advance(0, prompts.count)
    let encoder = try plan.checkpoint.promptEncoder(
      dtype: plan.models.dtype, device: plan.models.device,
      storage: plan.models.textEncoder8bit ? .int8 : .asStored)
    return try prompts.enumerated().map { index, prompt in
      let features = try encoder([prompt])
      try advance(index + 1, prompts.count)
      return features
    }
  }

  private func encode(
    _ encodings: [GenerationStage.VideoEncoding], _ state: inout State, _ advance: Advance
  ) throws {
    try advance(0, encodings.count)
    let encoder = VideoConditionEncoder(
      encoder: try plan.checkpoint.videoEncoder(dtype: plan.models.dtype, device: plan.models.device))
    for (index, encoding) in encodings.enumerated() {
      switch try encoder(encoding) {
      case .condition(let condition): state.videoConditions[encoding.sampling, default: []].append(condition)
      case .frozen(let latent): state.frozenVideo[encoding.sampling] = latent
      }
      try advance(index + 1, encodings.count)
    }
  }

  private func encode(
    _ encodings: [GenerationStage.SoundEncoding], _ state: inout State, _ advance: Advance
  ) throws {
    try advance(0, encodings.count)
    let encoder = SoundConditionEncoder(
      encoder: try plan.checkpoint.audioEncoder(dtype: plan.models.dtype, device: plan.models.device))
    for (index, encoding) in encodings.enumerated() {
      switch try encoder(encoding) {
      case .condition(let condition): state.soundConditions.append(condition)
      case .frozen(let latent, let sound): (state.frozenSound, state.givenSound) = (latent, sound)
      }
      try advance(index + 1, encodings.count)
    }
  }

  // MARK: What is made

  private func sample(
    _ sampling: GenerationStage.Sampling, _ state: inout State, _ advance: Advance
  ) throws {
    let steps = sampling.sigmas.count - 1
    let total = steps * state.results.count
    try advance(0, total)
    let (device, dtype) = (plan.models.device, plan.models.dtype)
    let transformer = try plan.checkpoint.transformer(
      sampling.loras, plan.models.fusesLoRAs ? .fused : .separate, streams: sampling.streams, dtype: dtype,
      device: device)
    let sampler = Sampler(transformer: transformer, method: sampling.method)
    for index in state.results.indices {
      let result = state.results[index]
      let video = try sampling.video.map { try start($0, sampling, result, state, prompt: index) }
      let audio = try sampling.audio.map { try start($0, sampling, result, state, prompt: index) }
      let end = try sampler.sample(video: video, audio: audio, sigmas: sampling.sigmas) { step, _, _ in
        try advance(index * steps + step + 1, total)
      }
      if let grid = sampling.video, let stream = end.video {
        state.results[index].video = try VideoTokens.unpatchify(
          finiteTokens(stream), frames: grid.frames, rows: grid.rows, columns: grid.columns)
      }
      if let grid = sampling.audio, let stream = end.audio, !sampling.refines || sampling.keepsSound {
        state.results[index].audio = try AudioTokens.unpatchify(finiteTokens(stream), channels: grid.channels)
      }
    }
  }

  private func start(
    _ grid: VideoGrid, _ sampling: GenerationStage.Sampling, _ result: Result, _ state: State, prompt: Int
  ) throws -> SampledStream {
    let frozen = state.frozenVideo[sampling.index]
    let sequence = try grid.sequence(
      state.videoConditions[sampling.index] ?? [],
      start: frozen ?? (sampling.refines ? result.video?.to(.cpu, .float32) : nil))
    return try start(
      sequence, sampling, result, state, prompt: prompt, context: \.video,
      guidance: sampling.videoGuidance, isFrozen: frozen != nil)
  }

  private func start(
    _ grid: AudioGrid, _ sampling: GenerationStage.Sampling, _ result: Result, _ state: State, prompt: Int
  ) throws -> SampledStream {
    let sequence = try grid.sequence(
      state.soundConditions,
      start: state.frozenSound ?? (sampling.refines ? result.audio?.to(.cpu, .float32) : nil))
    return try start(
      sequence, sampling, result, state, prompt: prompt, context: \.audio,
      guidance: sampling.audioGuidance, isFrozen: state.frozenSound != nil)
  }

  private func start(
    _ sequence: LatentSequence, _ sampling: GenerationStage.Sampling, _ result: Result, _ state: State,
    prompt: Int, context: KeyPath<TextContexts, Tensor?>, guidance: Guidance, isFrozen: Bool
  ) throws -> SampledStream {
    guard let positive = state.contexts[prompt][keyPath: context] else {
      preconditionFailure("a stream without a context")
    }
    let (device, dtype) = (plan.models.device, plan.models.dtype)
    let noise = try result.generator.normal(sequence.clean.shape).to(device, dtype)
    return try SampledStream(
      noise: noise, sequence: sequence.to(device, dtype), context: positive,
      negativeContext: state.contexts.count > state.results.count
        ? state.contexts[state.results.count][keyPath: context] : nil,
      guidance: guidance,
      noiseLevel: sampling.refines ? Double(sampling.sigmas[0]) : 1, isFrozen: isFrozen)
  }

  /// The result's own tokens: [1, T, C].
  private func finiteTokens(_ stream: SampledStream) throws -> Tensor {
    let tokens = try stream.latent.narrow(1, 0, stream.sequence.targetCount)
    guard try tokens.isAllFinite() else {
      throw SamplingError(
        description:
          "sampling ended in numbers that are not finite: lower the scales of guidance or the LoRAs' strength, "
          + "or use --dtype float32")
    }
    return tokens
  }

  private func upsample(_ path: String, _ state: inout State, _ advance: Advance) throws {
    let total = state.results.count
    try advance(0, total)
    let upsampler = try LatentUpsampler(path: path, dtype: plan.models.dtype, device: plan.models.device)
    let statistics = try plan.checkpoint.videoLatentStatistics(device: plan.models.device)
    for index in state.results.indices {
      state.results[index].video = try state.results[index].video.map {
        try upsampler($0, statistics: statistics)
      }
      try advance(index + 1, total)
    }
  }

  private func decodeSound(_ state: inout State, _ advance: Advance) throws {
    let total = state.results.count
    try advance(0, total)
    let decoder = try plan.checkpoint.audioDecoder(dtype: plan.models.dtype, device: plan.models.device)
    let vocoder = try plan.checkpoint.vocoder(device: plan.models.device)
    for index in state.results.indices {
      guard let latent = state.results[index].audio else { preconditionFailure("no sound to decode") }
      let waveform = try vocoder(decoder(latent))
      let channels = try AudioTensors.channels(waveform)
      state.results[index].sound = SoundClip(
        left: channels[0], right: channels[channels.count - 1], sampleRate: vocoder.sampleRate)
      state.results[index].audio = nil
      try advance(index + 1, total)
    }
  }
}

/// A generation that can't go on.
public struct SamplingError: Error, CustomStringConvertible, Sendable {
  public let description: String
}
