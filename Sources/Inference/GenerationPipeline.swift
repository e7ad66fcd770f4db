// B batch, C latent channels, F H W latent frames, rows, columns, T tokens, S text tokens, W context width.

import LTX
import Media
import NN
import Torch

/// Runs the stages of a plan, one after another, with one stage's models in memory at a time.
///
/// All random numbers come from one generator on the CPU, in float32: a seed gives the same bytes again on the same
/// device and number of threads, and the same noise on every device.
public struct GenerationPipeline: Sendable {
  /// Called when a stage begins and after each unit of it. What it throws ends the generation; no output appears.
  public typealias Report = (GenerationProgress) throws -> Void

  private let plan: GenerationPlan

  public init(_ plan: GenerationPlan) { self.plan = plan }

  /// What stages hand on.
  private struct State {
    /// [1, S, W] for each prompt.
    var contexts: [Tensor] = []
    var conditions: [VideoCondition] = []
    /// [1, C, F, H, W]
    var latent: Tensor?
  }

  /// Generates the plan's output.
  ///
  /// - Throws: what models and writers throw; nothing is then at the output's path that was not before.
  public func run(report: Report = { _ in }) throws {
    let generator = try Generator(seed: plan.seed)
    try withInference {
      var state = State()
      for stage in plan.stages {
        func advance(_ done: Int, of total: Int) throws {
          try report(GenerationProgress(stage: stage, done: done, total: total))
        }
        switch stage {
        case .encodePrompts(let prompts):
          state.contexts = try encode(prompts, advance)
        case .encodeImages(let images):
          state.conditions = try encode(images, advance)
        case .sample(let sampling):
          state.latent = try sample(sampling, state, generator, advance)
        case .decode(let tiling):
          guard let latent = state.latent else {
            preconditionFailure("a plan that decodes before it samples")
          }
          state = State()
          try decode(latent, tiling, generator, advance)
        }
      }
    }
  }

  private typealias Advance = (_ done: Int, _ total: Int) throws -> Void

  private func encode(_ prompts: [String], _ advance: Advance) throws -> [Tensor] {
    try advance(0, prompts.count)
    let features = try features(of: prompts)
    let connectors = try plan.checkpoint.textConnectors(
      dtype: plan.models.dtype, device: plan.models.device, streams: .video)
    guard let video = try connectors(features).video else { preconditionFailure("connectors without video") }
    try advance(prompts.count, prompts.count)
    return try video.split(1)
  }

  /// A function of its own, so that the text encoder is gone when it returns.
  private func features(of prompts: [String]) throws -> TextFeatures {
    try plan.checkpoint.promptEncoder(
      textEncoder: plan.models.textEncoder, dtype: plan.models.dtype, device: plan.models.device)(prompts)
  }

  private func encode(_ images: [GenerationStage.FittedImage], _ advance: Advance) throws -> [VideoCondition]
  {
    try advance(0, images.count)
    let encoder = try plan.checkpoint.videoEncoder(dtype: plan.models.dtype, device: plan.models.device)
    return try images.enumerated().map { index, image in
      let latent = try encoder(FrameTensors.stack([image.pixels])).to(.cpu, .float32)
      try advance(index + 1, images.count)
      let condition = image.condition
      return condition.frame == 0
        ? .replace(latent: latent, latentFrame: 0, strength: condition.strength)
        : .keyframe(latent: latent, frame: condition.frame, strength: condition.strength)
    }
  }

  /// - Returns: [1, C, F, H, W]
  private func sample(
    _ sampling: GenerationStage.Sampling, _ state: State, _ generator: Generator, _ advance: Advance
  ) throws -> Tensor {
    let steps = sampling.sigmas.count - 1
    try advance(0, steps)
    let (device, dtype) = (plan.models.device, plan.models.dtype)
    let transformer = try plan.checkpoint.transformer(
      sampling.loras, streams: .video, dtype: dtype, device: device)
    let grid = sampling.grid
    var sequence = try grid.sequence(state.conditions)
    let noise = try generator.normal(sequence.clean.shape).to(device, dtype)
    sequence.clean = try sequence.clean.to(device, dtype)
    sequence.denoiseMask = try sequence.denoiseMask.to(device)
    sequence.positions = try sequence.positions.to(device)
    let start = try SampledStream(
      noise: noise, sequence: sequence, context: state.contexts[0],
      negativeContext: state.contexts.count > 1 ? state.contexts[1] : nil, guidance: sampling.guidance)
    let sampler = Sampler(transformer: transformer, stgBlocks: sampling.stgBlocks)
    let end = try sampler.sample(video: start, audio: nil, sigmas: sampling.sigmas) { step, _, _ in
      try advance(step + 1, steps)
    }
    guard let tokens = try end.video?.latent.narrow(1, 0, sequence.targetCount) else {
      preconditionFailure("a sampler that drops a stream")
    }
    guard try tokens.to(.float32).abs().amax().isFinite().item() != 0 else {
      throw SamplingError(
        description: "sampling ended in numbers that are not finite: lower --cfg-scale, --stg-scale or the "
          + "LoRAs' strength, or use --dtype float32")
    }
    return try VideoTokens.unpatchify(tokens, frames: grid.frames, rows: grid.rows, columns: grid.columns)
  }

  /// Frames are written as they are decoded: a long video is never in memory as a whole.
  private func decode(_ latent: Tensor, _ tiling: Tiling, _ generator: Generator, _ advance: Advance) throws {
    try advance(0, plan.frames)
    let decoder = try plan.checkpoint.videoDecoder(dtype: plan.models.dtype, device: plan.models.device)
    let sink = try FrameSink(
      path: plan.output, width: plan.width, height: plan.height, frameRate: plan.frameRate)
    var done = 0
    try decoder.decode(
      latent, tiling: tiling, noise: decoder.needsNoise ? { try generator.normal($0) } : nil
    ) { part in
      for index in 0..<part.size(2) {
        for frame in try FrameTensors.frames(part.narrow(2, index, 1)) { try sink.append(frame) }
        done += 1
        try advance(done, plan.frames)
      }
    }
    try sink.finish()
  }
}

/// A generation that can't go on.
public struct SamplingError: Error, CustomStringConvertible, Sendable {
  public let description: String
}
