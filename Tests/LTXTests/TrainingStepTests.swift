import BlockExecution
import Foundation
import LTX
import NN
import Optimizers
import Testing
import Torch
import Training

@Suite struct TrainingStepTests {
  /// Memory is measured for the entire process, so this runs in a separate one.
  @Test func stepsLeakNothing() async throws {
    await #expect(processExitsWith: .success) {
      let path = FileManager.default.temporaryDirectory.appendingPathComponent(
        "\(UUID()).safetensors"
      ).path
      let model = TinyTransformer()
      try model.write(to: path, seed: 1)
      let generator = try Generator(seed: 2)
      let transformer = try Checkpoint(path: path).transformer(
        LoadPolicy(
          dtype: .float32,
          freshAdapters: FreshAdapters(
            targets: ["to_q", "to_out.0"], rank: 4, alpha: 4, generator: generator)))
      let optimizer = try AdamW([ParameterGroup(transformer.parameters, learningRate: 1e-3)])

      func example(_ channels: Int, axes: Int) throws -> ModalityExample {
        let sigma = try generator.uniform([1])
        return try ModalityExample(
          input: ModalityInput(
            latent: generator.normal([1, 6, channels]), timesteps: sigma.unsqueeze(1), sigma: sigma,
            positions: generator.uniform([1, axes, 6, 2]),
            context: generator.normal([1, 5, model.captionWidth])),
          target: generator.normal([1, 6, channels]), lossMask: .ones([1, 6]))
      }
      for activations in ActivationPolicy.allCases {
        let step = TrainingStep(
          transformer: transformer,
          plan: ExecutionPlan(blocks: model.blocks, activations: activations))
        var live: [Int] = []
        for _ in 0..<50 {
          let gradients = try step(
            TrainingExample(
              video: example(model.videoChannels, axes: 3),
              audio: example(model.audioChannels, axes: 1))
          ).gradients
          _ = try GradientClipping.clip(
            transformer.parameters.compactMap { gradients[$0.key] }, to: 1)
          try optimizer.step(gradients, learningRate: 1e-3)
          live.append(try Device.cpu.memory().liveBytes)
        }
        #expect(live[2] == live[49], "\(activations)")
      }
      try FileManager.default.removeItem(atPath: path)
    }
  }
}
