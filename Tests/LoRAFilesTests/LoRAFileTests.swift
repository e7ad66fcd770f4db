import Foundation
import NN
import Support
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX
@testable import LoRAFiles

@Suite struct LoRAFileTests {
  let fixture: LoRAFixture

  init() throws { fixture = try LoRAFixture() }

  private struct Names: Decodable { let names: [String: String] }

  /// The names are those that diffusers' conversion gives the linear layers of its models of both
  /// versions.
  @Test func namesAreThoseOfDiffusers() throws {
    let json = try Data(contentsOf: URL(fileURLWithPath: "\(Fixtures.root)/lora/names.json"))
    let names = try JSONDecoder().decode(Names.self, from: json).names
    #expect(names.count > 80)
    let layers = try ModuleNames.ltx2
    for (path, name) in names {
      #expect(ModuleNames.diffusers(path) == name)
      #expect(ModuleNames.path(diffusers: name) == path)
      guard path.hasPrefix(ModuleNames.transformer) else {
        #expect(
          LoRAFormat.kohya.name(of: path, layers) == nil, "kohya's names know the transformer only")
        continue
      }
      #expect(layers.isKnown(path), "\(path)")
      let flat = path.dropFirst(ModuleNames.transformer.count).map { $0 == "." ? "_" : String($0) }
        .joined()
      #expect(layers.path(flat: flat) == path)
      if name.hasPrefix("transformer.") {
        let flatName = name.dropFirst("transformer.".count).map { $0 == "." ? "_" : String($0) }
          .joined()
        #expect(layers.path(flat: flatName) == path)
      }
    }
  }

  @Test func noTwoLayersShareAFlatName() throws {
    let names = try ModuleNames.ltx2
    let flat = Set(names.layers.map { $0.replacingOccurrences(of: ".", with: "_") })
    #expect(flat.count == names.layers.count)
    #expect(
      names.path(flat: "transformer_blocks_47_attn1_to_out_0")
        == "diffusion_model.transformer_blocks.47.attn1.to_out.0")
    #expect(names.path(flat: "input_blocks_1_1_proj_in") == nil)
  }

  /// The layers of built models match the published ones.
  @Test func everyLinearLayerOfBothGenerationsIsKnown() throws {
    let layers = try ModuleNames.ltx2.layers
    #expect(layers.count == 83)
    for path in [
      "diffusion_model.transformer_blocks.#.attn2.to_gate_logits",
      "diffusion_model.audio_prompt_adaln_single.linear",
      "diffusion_model.caption_projection.linear_1",
      "diffusion_model.audio_embeddings_connector.transformer_1d_blocks.#.ff.net.2",
      "text_embedding_projection.aggregate_embed",
      "text_embedding_projection.audio_aggregate_embed",
    ] { #expect(layers.contains(path), "\(path)") }
  }

  @Test(arguments: [
    ("lora_kohya", LoRAFormat.kohya), ("lora_comfyui_alpha", .comfyUI),
    ("lora_diffusers", .diffusers),
  ])
  func formatsAndAlphasAreRead(_ name: String, _ format: LoRAFormat) throws {
    let file = try LoRAFixture.lora(name)
    #expect(file.format == format)
    #expect(file.modules.count == 13)
    try file.requireFit(LoRAFixture.checkpoint())
    let scales = Dictionary(uniqueKeysWithValues: file.modules.map { ($0.path, $0.scale) })
    #expect(scales["diffusion_model.patchify_proj"] == 4)
    #expect(scales["diffusion_model.transformer_blocks.0.attn1.to_q"] == 0.25)
    #expect(scales["diffusion_model.transformer_blocks.1.ff.net.0.proj"] == 1.5)
  }

  @Test func canonicalFilesHaveNoScale() throws {
    let file = try LoRAFixture.lora("lora_all")
    #expect(file.format == .comfyUI)
    #expect(file.modules.allSatisfy { $0.scale == 1 && $0.name == $0.path })
  }

  @Test(arguments: [
    "base_model.model.", "base_model.model.transformer.", "base_model.model.diffusion_model.", "",
  ])
  func peftPrefixesAreRead(_ prefix: String) throws {
    let module = prefix + "transformer_blocks.1.attn1.to_q"
    let path = try fixture.file([
      "\(module).lora_A.weight": [2, 8], "\(module).lora_B.weight": [8, 2],
    ])
    let plain = try LoRAFile(path: path)
    #expect(plain.format == .peft)
    #expect(plain.modules.map(\.path) == ["diffusion_model.transformer_blocks.1.attn1.to_q"])
    #expect(plain.modules[0].scale == 1)
    // peft's own configuration beside the weights gives alpha.
    try Data(#"{"r": 2, "lora_alpha": 6, "alpha_pattern": {}}"#.utf8).write(
      to: URL(fileURLWithPath: fixture.path("adapter_config.json")))
    #expect(try LoRAFile(path: path).modules[0].scale == (prefix.isEmpty ? 1 : 3))
  }

  @Test func configurationsInTheMetadata() throws {
    let (a, b) = ("transformer.proj_in", "transformer.transformer_blocks.0.attn1.to_q")
    let shapes = [
      "\(a).lora_A.weight": [4, 8], "\(a).lora_B.weight": [8, 4], "\(b).lora_A.weight": [4, 8],
      "\(b).lora_B.weight": [8, 4],
    ]
    func scales(_ json: String) throws -> [Double] {
      let path = try fixture.file(shapes, metadata: ["lora_adapter_metadata": json])
      return try LoRAFile(path: path).modules.map(\.scale)
    }
    #expect(try scales(#"{"transformer.r": 4, "transformer.lora_alpha": 8}"#) == [2, 2])
    #expect(
      try scales(#"{"transformer.lora_alpha": 8, "transformer.use_rslora": true}"#) == [4, 4])
    #expect(
      try scales(#"{"transformer.lora_alpha": 8, "transformer.alpha_pattern": {"attn1.to_q": 1}}"#)
        == [
          2, 0.25,
        ])
    #expect(
      try scales(#"{"transformer.lora_alpha": 8, "transformer.alpha_pattern": {"^proj_in": 1}}"#)
        == [
          0.25, 2,
        ])
    #expect(
      try scales(#"{"transformer.lora_alpha": 8, "transformer.alpha_pattern": {"^to_q": 1}}"#) == [
        2, 2,
      ])
    #expect(throws: Support.Issue.self) { try scales(#"{"transformer.use_dora": true}"#) }
    #expect(throws: Support.Issue.self) {
      try scales(#"{"transformer.alpha_pattern": {"(.*)+q": 1}}"#)
    }
    #expect(throws: Support.Issue.self) { try scales("no JSON") }
  }

  /// Whatever can't be used is named, with the problem.
  @Test(arguments: [
    ("diffusion_model.proj_out.dora_scale", "for each of the 8 outputs"),
    ("diffusion_model.proj_out.lora_magnitude_vector", "for each of the 8 outputs"),
    ("diffusion_model.proj_out.lokr_w1", "beside tensors of LoKr"),
    ("diffusion_model.proj_out.hada_w1_a", "beside tensors of LoHa"),
    ("lora_unet_proj_out.lokr_t2", "LoKr with a Tucker core"),
    ("diffusion_model.proj_out.diff", "full weight difference"),
    ("lora_unet_single_blocks_0_linear1.lora_down.weight", "FLUX.1 or HunyuanVideo"),
    ("lora_unet_something_new.lora_down.weight", "not a layer of LTX-2"),
    ("something_new.lora_A.weight", "not a layer of LTX-2"),
    ("diffusion_model.proj_out.weight", "does not belong to a LoRA"),
    ("something.else", "does not belong to a LoRA"),
    ("diffusion_model.patchify_proj.lora_A.weight", "no B"),
    ("diffusion_model.patchify_proj.lora_B.weight", "no A"),
    ("lora_unet_patchify_proj.alpha", "an alpha but no A"),
    ("transformer.proj_out.lora_A.weight", "second adapter"),
  ])
  func badKeysAreNamed(_ key: String, _ problem: String) throws {
    let path = try fixture.file([
      "diffusion_model.proj_out.lora_A.weight": [2, 8],
      "diffusion_model.proj_out.lora_B.weight": [8, 2],
      key: [2, 8],
    ])
    let error = #expect(throws: WeightError.self) { try LoRAFile(path: path) }
    let module = key.split(separator: ".").prefix(2).joined(separator: ".")
    #expect(
      error?.key.hasPrefix(module) == true || problem == "an alpha but no A", "\(error?.key ?? "")")
    #expect(error?.problem.contains(problem) == true, "\(error?.problem ?? "")")
  }

  @Test func badFactorsAreNamed() throws {
    let key = "diffusion_model.proj_out"
    for (down, up, problem) in [
      ([2, 8], [8, 3], "whose ranks 2 and 3 differ"),
      ([2, 8, 1], [8, 2], "expected a matrix in a floating-point dtype"),
      ([0, 8], [8, 0], "expected a matrix in a floating-point dtype"),
    ] {
      let path = try fixture.file(["\(key).lora_A.weight": down, "\(key).lora_B.weight": up])
      let error = #expect(throws: WeightError.self) { try LoRAFile(path: path) }
      #expect(error?.description.contains(problem) == true)
      #expect(error?.key.hasPrefix(key) == true)
    }
    let path = try fixture.file(
      ["\(key).lora_A.weight": [2, 8], "\(key).lora_B.weight": [8, 2], "\(key).alpha": [3]])
    #expect(throws: WeightError.self) { try LoRAFile(path: path) }
  }

  @Test func changesOfBiasesAreListed() throws {
    let path = try fixture.file([
      "diffusion_model.proj_out.lora_A.weight": [2, 8],
      "diffusion_model.proj_out.lora_B.weight": [8, 2],
      "diffusion_model.proj_out.lora_B.bias": [8],
    ])
    #expect(try LoRAFile(path: path).ignoredKeys == ["diffusion_model.proj_out.lora_B.bias"])
  }

  @Test func parts() {
    for (path, part) in [
      ("diffusion_model.transformer_blocks.0.attn1.to_q", LoRAPart.video),
      ("diffusion_model.transformer_blocks.0.audio_ff.net.2", .audio),
      ("diffusion_model.audio_adaln_single.linear", .audio),
      ("diffusion_model.transformer_blocks.0.audio_to_video_attn.to_q", .cross),
      ("diffusion_model.transformer_blocks.0.video_to_audio_attn.to_q", .cross),
      ("diffusion_model.av_ca_a2v_gate_adaln_single.linear", .cross),
    ] {
      #expect(LoRAPart(path: path) == part)
    }
    #expect(LoRAPart.allCases.filter { $0.isBuilt(.video) } == [.video])
    #expect(LoRAPart.allCases.filter { $0.isBuilt(.audio) } == [.audio])
    #expect(LoRAPart.allCases.filter { $0.isBuilt(.both) }.count == 3)
  }
}
