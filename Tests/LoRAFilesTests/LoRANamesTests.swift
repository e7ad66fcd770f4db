import Foundation
import NN
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX
@testable import LoRAFiles

/// Keys of other trainers and of other models' LoRAs.
@Suite struct LoRANamesTests {
  let fixture: LoRAFixture

  init() throws { fixture = try LoRAFixture() }

  private func file(_ modules: [String], isKohya: Bool = false) throws -> String {
    let (down, up) =
      isKohya ? ("lora_down.weight", "lora_up.weight") : ("lora_A.weight", "lora_B.weight")
    var shapes: [String: [Int]] = [:]
    for module in modules {
      shapes["\(module).\(down)"] = [2, 8]
      shapes["\(module).\(up)"] = [8, 2]
    }
    return try fixture.file(shapes)
  }

  /// All spellings of a layer that trainers use.
  @Test(arguments: [
    (
      "diffusion_model.transformer_blocks.0.attn1.to_q",
      "diffusion_model.transformer_blocks.0.attn1.to_q"
    ),
    (
      "model.diffusion_model.transformer_blocks.0.attn1.to_q",
      "diffusion_model.transformer_blocks.0.attn1.to_q"
    ),
    (
      "transformer.transformer_blocks.0.attn1.to_q",
      "diffusion_model.transformer_blocks.0.attn1.to_q"
    ),
    ("transformer_blocks.0.attn1.to_q", "diffusion_model.transformer_blocks.0.attn1.to_q"),
    (
      "lora_unet_transformer_blocks_0_attn1_to_q", "diffusion_model.transformer_blocks.0.attn1.to_q"
    ),
    ("lycoris_transformer_blocks_0_attn1_to_q", "diffusion_model.transformer_blocks.0.attn1.to_q"),
    (
      "lora_transformer_transformer_blocks_0_attn1_to_q",
      "diffusion_model.transformer_blocks.0.attn1.to_q"
    ),
    ("diffusion_model.proj_in", "diffusion_model.patchify_proj"),
    (
      "diffusion_model.text_embedding_projection.aggregate_embed",
      "text_embedding_projection.aggregate_embed"
    ),
    (
      "model.diffusion_model.text_embedding_projection.audio_aggregate_embed",
      "text_embedding_projection.audio_aggregate_embed"
    ),
    ("text_embedding_projection.aggregate_embed", "text_embedding_projection.aggregate_embed"),
    (
      "lora_unet_text_embedding_projection_aggregate_embed",
      "text_embedding_projection.aggregate_embed"
    ),
    ("connectors.text_proj_in", "text_embedding_projection.aggregate_embed"),
  ])
  func layersAreFoundByEverySpelling(_ name: String, _ path: String) throws {
    let file = try LoRAFile(path: file([name], isKohya: name.hasPrefix("l")))
    #expect(file.modules.map(\.path) == [path])
    #expect(file.modules.map(\.isOfTransformer) == [path.hasPrefix("diffusion_model.")])
  }

  @Test(arguments: [
    ("diffusion_model.blocks.12.self_attn.q", "Wan 2.x"), ("lora_unet_blocks_12_ffn_0", "Wan 2.x"),
    ("transformer.condition_embedder.time_embedder.linear_1", "Wan 2.x"),
    ("lora_unet_double_blocks_3_img_mod_lin", "FLUX.1"),
    ("transformer.single_transformer_blocks.7.attn.to_q", "FLUX.1 or HunyuanVideo"),
    ("diffusion_model.double_blocks.3.img_mlp.fc1", "HunyuanVideo"),
    ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn1_to_q", "Stable Diffusion XL"),
    ("lora_unet_input_blocks_1_1_proj_in", "Stable Diffusion 1.5 or 2"),
    ("unet.up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", "Stable Diffusion 1.5 or 2"),
    ("diffusion_model.joint_blocks.3.x_block.attn.qkv", "Stable Diffusion 3"),
    ("transformer.transformer_blocks.5.img_mlp.net.2", "Qwen-Image"),
    ("diffusion_model.layers.5.attention.to_q", "Z-Image or Lumina 2"),
    ("diffusion_model.blocks.5.adaln_modulation_self_attn.1", "Cosmos or Anima"),
    ("diffusion_model.blocks.5.attn.qkv_x", "Mochi"),
    ("diffusion_model.double_stream_blocks.5.block.attn1.to_q", "HiDream"),
    ("diffusion_model.distilled_guidance_layer.in_proj", "Chroma"),
  ])
  func otherModelsAreNamed(_ module: String, _ model: String) throws {
    let isKohya = module.hasPrefix("lora_")
    for modules in [[module], [module, "lora_te1_text_model_encoder_layers_0_mlp_fc1"]] {
      let path = try file(modules, isKohya: isKohya)
      let error = #expect(throws: WeightError.self, "\(module)") { try LoRAFile(path: path) }
      #expect(
        error?.problem.contains(
          "belongs to \(model): the LoRA was made for that model, not for LTX-2")
          == true,
        "\(module): \(error?.problem ?? "")")
    }
    // With some of LTX-2's layers, which share names with other models'.
    let path = try file([module, "diffusion_model.proj_out"])
    let error = #expect(throws: WeightError.self) { try LoRAFile(path: path) }
    #expect(error?.problem.contains("(1 other adapters are for LTX-2)") == true || isKohya)
  }

  @Test(arguments: [
    ("lokr_t2", "LoKr with a Tucker core"), ("hada_t1", "LoHa with a Tucker core"),
    ("oft_diag", "OFT"),
    ("oft_blocks", "OFT"), ("oft_R.default.weight", "OFT"), ("boft_R", "BOFT"), ("ia3_l", "IA3"),
    ("a1.weight", "GLoRA"), ("b2.weight", "GLoRA"), ("vera_lambda_b", "VeRA"),
    ("lora_mid.weight", "LoCon"),
    ("lora_E", "AdaLoRA"), ("w_norm", "normalization"), ("fourierft_spectrum", "FourierFT"),
    ("lora_embedding_A", "embedding"), ("diff", "full weight difference"), ("scalar", "LyCORIS"),
  ])
  func otherKindsOfAdaptersAreNamed(_ suffix: String, _ kind: String) throws {
    for name in [
      "diffusion_model.transformer_blocks.0.attn1.to_q",
      "lora_unet_transformer_blocks_0_attn1_to_q",
    ] {
      let path = try fixture.file(["\(name).\(suffix)": [8, 8], "\(name).alpha": []])
      let error = #expect(throws: WeightError.self, "\(suffix)") { try LoRAFile(path: path) }
      #expect(error?.key == "\(name).\(suffix)")
      #expect(error?.problem.contains(kind) == true, "\(suffix): \(error?.problem ?? "")")
    }
  }

  /// Adapters of models other than the transformer are skipped and reported, like those of the
  /// connectors.
  @Test(arguments: [
    ("lora_te_layers_0_self_attn_q_proj", "text encoder"),
    ("text_encoder.model.layers.0.mlp.up_proj", "text encoder"),
    ("te1.text_model.encoder.layers.0.mlp.fc1", "text encoder"), ("vae.decoder.conv_in", "VAE"),
    ("base_model.model.model.layers.0.self_attn.q_proj", "text encoder"),
  ])
  func adaptersOfOtherModelsAreLeftOut(_ module: String, _ component: String) throws {
    let both = try LoRAFile(path: file([module, "diffusion_model.proj_out"]))
    #expect(both.modules.map(\.path) == ["diffusion_model.proj_out"])
    #expect(both.otherModules == [component: [module]])
    #expect(
      both.otherModulesNote?.contains("1 \(component) adapter left out, such as \(module)") == true)
    #expect(try LoRAReport(both).otherModules == both.otherModules)
    let error = #expect(throws: WeightError.self) { try LoRAFile(path: file([module])) }
    #expect(
      error?.problem.contains("belongs to a \(component)") == true
        || error?.problem.contains("a language model") == true, "\(error?.problem ?? "")")
  }

  @Test func partialMatchesAreCounted() throws {
    let checkpoint = try LoRAFixture.checkpoint()
    let lora = try LoRAFixture.lora("lora_all")
    var tensors: [(key: String, tensor: Tensor)] = []
    for (index, module) in lora.modules.enumerated() {
      let name =
        index < 2
        ? module.path.replacing("transformer_blocks", with: "transformer_blocks.9") : module.path
      tensors.append(("\(name).lora_A.weight", module.down))
      tensors.append(("\(name).lora_B.weight", module.up))
    }
    let moved = lora.modules.prefix(2).count { $0.path.contains("transformer_blocks") }
    try writeSafetensors(tensors, to: fixture.path("p.safetensors"))
    let file = try LoRAFile(path: fixture.path("p.safetensors"))
    let count = file.modules.count
    if moved > 0 {
      let error = #expect(throws: WeightError.self) { try file.requireFit(checkpoint) }
      #expect(
        error?.problem.contains("\(count - moved) of \(count) adapters fit, \(moved) don't.")
          == true,
        "\(error?.problem ?? "")")
    }
    let narrow = try fixture.file([
      "diffusion_model.transformer_blocks.0.attn1.to_q.lora_A.weight": [2, 2048],
      "diffusion_model.transformer_blocks.0.attn1.to_q.lora_B.weight": [2048, 2],
    ])
    #expect(try LoRAReport(LoRAFile(path: narrow)).base == "LTX-Video 0.9 (2B)")
    let error = #expect(throws: WeightError.self) {
      try LoRAFile(path: narrow).requireFit(checkpoint)
    }
    #expect(
      error?.problem.contains("None") == true
        || error?.problem.contains("LTX-Video 0.9 (2B)") == true)
  }

  // MARK: Base models

  @Test(
    arguments: [
      ("ltx-2.3-22b-dev.safetensors", [2, 3]), ("LTX-2", [2]), ("ltx2", [2]), ("ltx2.3", [2, 3]),
      ("ltx-2.5-22b", [2, 5]),
      ("Lightricks/LTX-2-19b", [2]), ("ltxv-13b-0.9.7", [0, 9, 7]), ("LTX-Video 0.9.5", [0, 9, 5]),
      ("flux1", nil), ("ltx", nil), ("2.3.0", nil),
    ] as [(String, [Int]?)])
  func versionsAreReadFromNames(_ text: String, _ version: [Int]?) {
    #expect(LoRAFile.version(in: text) == version)
    #expect(LoRAFile.version(in: "2.3.0", isBare: true) == [2, 3, 0])
  }

  /// Layers of both versions have the same shapes: only metadata distinguish them.
  @Test func aLoRAOfTheOtherModelVersionIsReported() throws {
    let name = "diffusion_model.transformer_blocks.0.attn1.to_k"
    let (old, new) = (
      try Checkpoint(path: Fixtures.model("ltx2_transformer")),
      try Checkpoint(path: Fixtures.model("ltx23_transformer"))
    )
    for (metadata, onOld, onNew) in [
      (["ss_base_model_version": "ltx-2"], false, true), (["base_model": "LTX-2.3"], true, false),
      (["model_version": "2.3.0"], true, false), (["model_version": "2.5.1"], true, true),
      (["base_model": "LTX-2.5"], true, true),
      (["modelspec.architecture": "ltx-2.3/lora"], true, false),
      (["modelspec.architecture": "wan2.1/lora"], true, true), ([:], false, false),
    ] as [([String: String], Bool, Bool)] {
      for (checkpoint, isTold) in [(old, onOld), (new, onNew)] {
        let shape = try #require(checkpoint.source.entries["model.\(name).weight"]).shape
        let path = try fixture.file(
          ["\(name).lora_A.weight": [2, shape[1]], "\(name).lora_B.weight": [shape[0], 2]],
          metadata: metadata
        )
        let file = try LoRAFile(path: path)
        let warning = try file.baseWarning(checkpoint)
        #expect((warning != nil) == isTold, "\(metadata): \(warning ?? "nothing")")
        #expect(try TransformerBuilder(checkpoint).lora(file).notes == (warning.map { [$0] } ?? []))
        #expect(
          try CheckpointFusion(checkpoint, loras: [(file, 1)]).notes == (warning.map { [$0] } ?? [])
        )
        if metadata.isEmpty {
          #expect(
            try file.baseWarningOrDoubt(checkpoint)?.contains("does not say which model") == true)
        }
      }
    }
    let (a, b) = (
      try fixture.file(
        ["\(name).lora_A.weight": [2, 8], "\(name).lora_B.weight": [8, 2]],
        metadata: ["base_model": "LTX-2"], name: "old.safetensors"),
      try fixture.file(
        ["\(name).lora_A.weight": [2, 8], "\(name).lora_B.weight": [8, 2]],
        metadata: ["base_model": "LTX-2.3"], name: "new.safetensors")
    )
    let loras = try [a, b].map { (lora: try LoRA(LoRAFile(path: $0)), strength: 1.0) }
    #expect(try LoRA.merged(loras).warnings.first?.contains("may work on neither") == true)
    #expect(try LoRA.merged([loras[0], loras[0]]).warnings.isEmpty)
  }
}
