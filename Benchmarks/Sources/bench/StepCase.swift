// B batch 1, T tokens, C latent channels, S text tokens, W context width, R rank.

import BlockExecution
import Foundation
import LTX
import NN
import Optimizers
import TensorFiles
import Torch
import Training

/// The model and the inputs of one training step that takes a CPU about a second.
struct StepCase {
  static let blocks = 8
  static let videoTokens = 512
  static let audioTokens = 64
  static let textTokens = 128
  static let rank = 16
  static let targets = ["to_q", "to_k", "to_v", "to_out.0"]

  static var model: TinyTransformer {
    var model = TinyTransformer()
    model.blocks = blocks
    model.heads = 8
    model.headWidth = 64
    model.audioHeadWidth = 32
    model.captionWidth = 256
    return model
  }

  let checkpoint: String
  let inputs: String

  /// Writes the checkpoint, and the inputs and adapters that both sides load.
  init(writingTo folder: URL) throws {
    checkpoint = folder.appendingPathComponent("model.safetensors").path
    inputs = folder.appendingPathComponent("inputs.safetensors").path
    let model = Self.model
    try model.write(to: checkpoint, seed: 1)
    let generator = try Generator(seed: 2)
    var tensors: [(key: String, tensor: Tensor)] = [("sigma", try Tensor([Float(0.7)]))]
    for (name, tokens, channels) in [
      ("video", Self.videoTokens, model.videoChannels),
      ("audio", Self.audioTokens, model.audioChannels),
    ] {
      tensors.append(("\(name).latent", try generator.normal([1, tokens, channels])))
      tensors.append(("\(name).target", try generator.normal([1, tokens, channels])))
      tensors.append(
        ("\(name).context", try generator.normal([1, Self.textTokens, model.captionWidth])))
    }
    tensors.append(("video.positions", try Self.videoPositions()))
    tensors.append(("audio.positions", try Self.audioPositions()))
    // B is not zero, so that all gradients exist from the first step on.
    for parameter in try Self.transformer(checkpoint).parameters {
      let shape = parameter.tensor.shape
      tensors.append(
        (parameter.key, try generator.normal(shape) * (1 / Double(shape[1]).squareRoot() / 4)))
    }
    try writeSafetensors(tensors, to: inputs, isDurable: false)
  }

  /// 8 latent frames of 8x8 at 24 frames per second: [1, 3, 512, 2].
  private static func videoPositions() throws -> Tensor {
    var values: [[Float]] = [[], [], []]
    for frame in 0..<8 {
      for row in 0..<8 {
        for column in 0..<8 {
          values[0] += [Float(max(8 * frame - 7, 0)) / 24, Float(8 * frame + 1) / 24]
          values[1] += [Float(32 * row), Float(32 * row + 32)]
          values[2] += [Float(32 * column), Float(32 * column + 32)]
        }
      }
    }
    return try Tensor(values.flatMap { $0 }, shape: [1, 3, videoTokens, 2])
  }

  /// 25 tokens per second: [1, 1, 64, 2].
  private static func audioPositions() throws -> Tensor {
    let ends = (0..<audioTokens).map { Float(4 * $0 + 1) / 100 }
    let values = ends.flatMap { [max($0 - 0.04, 0), $0] }
    return try Tensor(values, shape: [1, 1, audioTokens, 2])
  }

  private static func transformer(_ checkpoint: String) throws -> Transformer {
    try Checkpoint(path: checkpoint).transformer(
      LoadPolicy(
        dtype: .float32,
        freshAdapters: FreshAdapters(
          targets: targets, settings: AdapterSettings(rank: rank, alpha: Double(rank)),
          generator: Generator(seed: 3))))
  }

  /// Our side of the step.
  func step() throws -> OurStep {
    let transformer = try Self.transformer(checkpoint)
    let file = try SafetensorsFile(path: inputs)
    try withoutGrad {
      for parameter in transformer.parameters {
        try parameter.tensor.copy_(file.tensor(parameter.key))
      }
    }
    return try OurStep(transformer: transformer, inputs: file)
  }

  /// Floating-point operations in matrix products of a forward pass.
  ///
  /// Adapters and the model's input and output layers are not counted: together they are about 1 %.
  static var forwardOperations: Double {
    let (v, a) = (Double(model.width), Double(model.audioWidth))
    let (tv, ta, s) = (Double(videoTokens), Double(audioTokens), Double(textTokens))
    func attention(queries: Double, _ tq: Double, keys: Double, _ tk: Double, inner: Double)
      -> Double
    {
      2 * inner * (2 * queries * tq + 2 * keys * tk) + 4 * tq * tk * inner
    }
    func stream(_ d: Double, _ t: Double) -> Double {
      attention(queries: d, t, keys: d, t, inner: d)
        + attention(queries: d, t, keys: d, s, inner: d) + 16 * d
        * d * t
    }
    let cross =
      attention(queries: v, tv, keys: a, ta, inner: a)
      + attention(queries: a, ta, keys: v, tv, inner: a)
    return Double(blocks) * (stream(v, tv) + stream(a, ta) + cross)
  }
}

/// One LoRA step of this trainer: forward, backward, clipping, AdamW.
final class OurStep {
  private let transformer: Transformer
  private let inputs: SafetensorsFile
  private let optimizer: AdamW

  init(transformer: Transformer, inputs: SafetensorsFile) throws {
    self.transformer = transformer
    self.inputs = inputs
    optimizer = try AdamW([ParameterGroup(transformer.parameters, learningRate: 1e-4)])
  }

  private func stream(_ name: String, _ timesteps: Timesteps) throws -> ModalityExample {
    let latent = try inputs.tensor("\(name).latent")
    let sigma = try inputs.tensor("sigma")
    let context = try inputs.tensor("\(name).context")
    let count = timesteps == .token ? latent.size(1) : 1
    return ModalityExample(
      input: ModalityInput(
        latent: latent, timesteps: try sigma.unsqueeze(1).expand([1, count]), sigma: sigma,
        positions: try inputs.tensor("\(name).positions"), context: context,
        contextMask: try .ones([1, context.size(1)], dtype: .int64)),
      target: try inputs.tensor("\(name).target"), lossMask: try .ones([1, latent.size(1)]))
  }

  func callAsFunction(_ activations: ActivationPolicy, _ timesteps: Timesteps) throws -> StepResult
  {
    let cpu = ProcessTime.now
    let start = ContinuousClock.now
    let step = TrainingStep(
      transformer: transformer,
      plan: ExecutionPlan(blocks: StepCase.blocks, activations: activations))
    let example = TrainingExample(
      video: try stream("video", timesteps), audio: try stream("audio", timesteps))
    let result = try step(example)
    let gradients = result.gradients
    let norm = try GradientClipping.clip(
      transformer.parameters.compactMap { gradients[$0.key] }, to: 1)
    try optimizer.step(gradients, learningRate: 1e-4)
    let value = try result.loss.mean().item()
    return StepResult(
      seconds: (ContinuousClock.now - start) / .seconds(1), cpu: ProcessTime.now - cpu, loss: value,
      norm: norm)
  }
}

/// Whether each token of a sample has its own timestep, or all share one.
enum Timesteps: String {
  case token, sample
}

struct StepResult: Decodable {
  let seconds: Double
  /// CPU seconds of all threads.
  let cpu: Double
  let loss: Double
  let norm: Double
}
