import Foundation
import LTX
import LoRAFiles
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import Training

/// Training on a transformer of LTX-2.5 in a file of its own, beside the file of its video VAE.
@Suite struct SplitPackTests {
  private static func synthetic(isSplit: Bool) throws -> SyntheticRun {
    try SyntheticRun((0..<2).map { _ in .init() }, pack: .ltx25(isSplit: isSplit))
  }

  /// The files that a run saved, by their names.
  private static func saved(_ c: TrainingConfiguration) throws -> SafetensorsFile {
    let trainer = try Trainer(c)
    _ = try trainer.prepareFolder(.resume)
    return try SafetensorsFile(path: #require(trainer.run().weights))
  }

  /// No token is marked in training, and full fine-tuning writes the embedding as it was.
  @Test func theKeyframeEmbeddingStays() throws {
    let synthetic = try Self.synthetic(isSplit: false)
    var c = synthetic.configuration(Strategies.everything, steps: 2)
    c.lora = nil
    c.model.trainingMode = .full
    let trainer = try Trainer(c)
    let example = try trainer.example(samples: [0, 1], noiseSeed: 1)
    #expect(example.video?.input.keyframesMask == nil)
    let key = "keyframes_abs_pos_embedding"
    #expect(!trainer.parameters.contains { $0.key.hasSuffix(key) })
    let (before, after) = (try SafetensorsFile(path: c.model.modelPath), try Self.saved(c))
    let scope = "model.diffusion_model."
    func isUnchanged(_ name: String) throws -> Bool {
      let old = try before.tensor(scope + name)
      return try Tensor.isEqual(after.tensor(name).to(.float32), old.to(.float32))
    }
    #expect(try isUnchanged(key))
    #expect(try !isUnchanged("transformer_blocks.0.ff.net.2.weight"))
    #expect(after.entries["transformer_blocks.0.ff.net.2.bias"] == nil)
    let config = try #require(after.metadata["config"])
    #expect(config.contains("ff_bias") && config.contains("use_keyframes_abs_pos_embedding"))
  }

  @Test(arguments: [false, true]) func aLoRASaysWhichModelItIsOf(isSplit: Bool) throws {
    let synthetic = try Self.synthetic(isSplit: isSplit)
    let file = try Self.saved(synthetic.configuration(Strategies.everything))
    #expect(file.metadata["base_model"] == "LTX-2.5")
    #expect(file.metadata["ss_base_model_version"] == "ltx-2.5")
  }

  @Test func theKeysOfMissingComponentsAreNamed() throws {
    let synthetic = try Self.synthetic(isSplit: true)
    var c = synthetic.configuration(Strategies.everything)
    c.model.videoVAEPath = nil
    let text = message { _ = try Trainer(c) }
    #expect(text.contains("model.video_vae_path is missing; \(c.model.modelPath) is a transformer"))
    #expect(!text.contains("audio_vae_path"))
    let both = message { try c.requireComponents(decodesAudio: true) }
    #expect(both.contains("video_vae_path") && both.contains("model.audio_vae_path is missing"))
    c.model.modelPath = try TinyModelFiles.ltx2().checkpoint
    try c.requireComponents(decodesAudio: true)
  }
}
