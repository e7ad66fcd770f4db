import Foundation
import LTX
import LoRAFiles
import NN
import TensorFiles
import TestSupport
import Testing
import Torch

/// The versions of LTX-2 whose layers a LoRA changes, and their evidence.
@Suite struct LoRAGenerationTests {
  private let fixture: LoRAFixture

  init() throws { fixture = try LoRAFixture() }

  /// A LoRA of rank 2 for layers with these outputs and inputs.
  private func lora(
    _ layers: [String: [Int]], metadata: [String: String] = [:]
  ) throws -> LoRAFile {
    var shapes: [String: [Int]] = [:]
    for (layer, shape) in layers {
      shapes["diffusion_model.\(layer).lora_A.weight"] = [2, shape[1]]
      shapes["diffusion_model.\(layer).lora_B.weight"] = [shape[0], 2]
    }
    return try LoRAFile(path: fixture.file(shapes, metadata: metadata))
  }

  private func generations(_ file: LoRAFile) throws -> [ModelGeneration] {
    try file.generationFits().filter(\.fits).map(\.generation)
  }

  private static let shared = "transformer_blocks.3.ff.net.2"
  private static let gate = "transformer_blocks.3.attn1.to_gate_logits"
  private static let prompt = "audio_prompt_adaln_single.linear"

  @Test func layersOfAllVersionsFitAll() throws {
    let file = try lora([Self.shared: [8, 32]])
    #expect(try generations(file) == [.ltx2, .ltx23, .ltx25])
    #expect(try file.base.generation == nil)
    #expect(try file.base.name == "LTX-2, LTX-2.3 or LTX-2.5")
  }

  @Test func aLayerThatAVersionLacksIsTheEvidence() throws {
    let file = try lora([Self.shared: [8, 32], Self.gate: [4, 8]])
    #expect(try generations(file) == [.ltx23, .ltx25])
    let base = try file.base
    #expect(base.generation == nil && base.name == "LTX-2.3 or LTX-2.5")
    #expect(base.reason == "LTX-2 does not have diffusion_model.\(Self.gate)")
    let both = try lora([Self.gate: [4, 8], "transformer_blocks.0.attn2.to_gate_logits": [4, 8]])
    #expect(try both.generationFits()[0].reason.hasSuffix("and 1 more layer"))

    let old = try lora([Self.shared: [8, 32], "caption_projection.linear_1": [8, 6]])
    #expect(try generations(old) == [.ltx2])
    #expect(try old.base.generation == .ltx2)
    #expect(try old.base.reason.contains("caption_projection"))
    let mixed = try lora([Self.gate: [4, 8], "caption_projection.linear_1": [8, 6]])
    #expect(try generations(mixed).isEmpty)
    #expect(try mixed.base.reason.contains("no version has all of its layers"))
  }

  @Test func theRowsOfTheModulationAreEvidence() throws {
    let (six, nine) = (
      try lora(["adaln_single.linear": [48, 8]]), try lora(["audio_adaln_single.linear": [72, 8]])
    )
    #expect(try generations(six) == [.ltx2] && generations(nine) == [.ltx23, .ltx25])
    #expect(try nine.generationFits()[0].reason.contains("9 rows of modulation"))
  }

  /// Models of LTX-2.5 with a static modulation of the text lack the layers that compute it.
  @Test func aLayerOfSomeModelsIsNamed() throws {
    let fits = try lora([Self.prompt: [16, 8]]).generationFits()
    #expect(fits.map(\.fits) == [false, true, true])
    #expect(!fits[1].reason.contains("some of its models"))
    #expect(
      fits[2].reason.contains("some of its models do not have diffusion_model.\(Self.prompt)"))
  }

  @Test func metadataChooseAmongThePossibleVersions() throws {
    let file = try lora([Self.gate: [4, 8]], metadata: ["model_version": "2.5.0"])
    #expect(try file.base.generation == .ltx25)
    #expect(
      try lora([Self.gate: [4, 8]], metadata: ["base_model": "LTX-2.3"]).base.generation == .ltx23)
  }

  /// A LoRA of LTX-2.3 fits LTX-2.5's layers, and is applied with a warning.
  @Test(arguments: [false, true]) func aLoRAOfAnEarlierVersionIsReported(isSplit: Bool) throws {
    let path = fixture.path("transformer.safetensors")
    var model = TinyTransformer.ltx25(isSplit: isSplit)
    model.blocks = 1
    try model.write(to: path, seed: 1)
    let checkpoint = try Checkpoint(path: path)
    #expect(try checkpoint.generation == .ltx25)
    let layer = "transformer_blocks.0.ff.net.2"
    let shape = [model.width, 4 * model.width]
    func notes(_ version: String) throws -> [String] {
      let file = try lora([layer: shape], metadata: ["base_model": version])
      #expect(try LoRAReport(file, checkpoint: checkpoint).base == "LTX-2.5")
      return try TransformerBuilder(checkpoint).lora(file).notes
    }
    #expect(try notes("LTX-2.5").isEmpty)
    #expect(try notes("LTX-2.3").first?.contains("was trained on LTX-2.3") == true)
    let doubt = try lora([layer: shape]).baseWarningOrDoubt(checkpoint)
    #expect(doubt?.contains("LTX-2, LTX-2.3 or LTX-2.5") == true)
  }

  /// A checkpoint without a bias takes a LoRA like any other, separate or fused.
  @Test func fusingIntoLayersWithoutBiases() throws {
    let path = fixture.path("transformer.safetensors")
    var model = TinyTransformer.ltx25(isSplit: true)
    model.blocks = 1
    try model.write(to: path, seed: 1)
    let checkpoint = try Checkpoint(path: path)
    let file = try lora(["transformer_blocks.0.ff.net.2": [model.width, 4 * model.width]])
    let fused = fixture.path("fused.safetensors")
    let fusion = try CheckpointFusion(checkpoint, loras: [(file, 0.01)])
    #expect(try fusion.write(to: fused) == 1)
    let (before, after) = (try SafetensorsFile(path: path), try SafetensorsFile(path: fused))
    #expect(before.entries.keys.sorted() == after.entries.keys.sorted())
    let changed = try before.keys.filter {
      try !Tensor.isEqual(before.tensor($0), after.tensor($0))
    }
    #expect(changed == ["model.diffusion_model.transformer_blocks.0.ff.net.2.weight"])
    _ = try Checkpoint(path: fused).transformer()
  }
}
