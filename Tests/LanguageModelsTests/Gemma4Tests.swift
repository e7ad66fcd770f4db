import Foundation
import NN
import Support
import TensorFiles
import Testing
import Torch

@testable import LanguageModels

@Suite struct Gemma4ConfigurationTests {
  private func configuration(_ text: String) throws -> GemmaConfiguration {
    try GemmaConfiguration(
      Configuration(
        json: #"{"model_type": "gemma4_unified", "text_config": {\#(text)}}"#, file: "config.json"))
  }

  @Test func publishedFilesLeaveOutWhatIsDefault() throws {
    let c = try configuration(
      """
      "hidden_size": 3840, "num_hidden_layers": 12, "num_attention_heads": 16,
      "num_key_value_heads": 8, "attention_k_eq_v": true, "num_global_key_value_heads": 1
      """)
    #expect(c.vocabulary == 262_144 && c.feedForwardWidth == 9216 && c.slidingWindow == 1024)
    #expect(c.attentionScale == 1 && c.normOffset == 0 && c.normEps == 1e-6)
    #expect(c.normalizesValues && c.scalesLayers && !c.hasAttentionBias)
    #expect(c.layers.indices.filter { c.layers[$0] == .global } == [5, 11])
    #expect(
      c.sliding
        == .init(
          keyHeads: 8, headWidth: 256, rotation: .init(theta: 10_000), projectsValues: true))
    #expect(
      c.global
        == .init(
          keyHeads: 1, headWidth: 512, rotation: .init(theta: 1_000_000, rotatedPart: 0.25),
          projectsValues: false))
  }

  @Test func globalLayersMayProjectValues() throws {
    // The number of global heads counts only if keys are the values.
    let c = try configuration(#""num_key_value_heads": 2, "num_global_key_value_heads": 1"#)
    #expect(c.global.keyHeads == 2 && c.global.projectsValues)
    let shared = try configuration(#""num_key_value_heads": 2, "attention_k_eq_v": true"#)
    #expect(shared.global.keyHeads == 2 && !shared.global.projectsValues)
  }

  @Test func theLastLayerIsGlobal() throws {
    #expect(try configuration(#""num_hidden_layers": 2"#).layers == [.sliding, .global])
    let listed = try configuration(
      #""num_hidden_layers": 2, "layer_types": ["full_attention", "sliding_attention"]"#)
    #expect(listed.layers == [.global, .global])
  }

  @Test func aKindWithoutLayersNeedsNoRotation() throws {
    let c = try configuration(
      #""num_hidden_layers": 1, "rope_parameters": {"full_attention": {"rope_theta": 7}}"#)
    #expect(c.global.rotation == .init(theta: 7))
  }

  @Test(arguments: [
    (#""num_kv_shared_layers": 2"#, "num_kv_shared_layers"),
    (#""use_double_wide_mlp": true"#, "use_double_wide_mlp"),
    (#""enable_moe_block": true"#, "enable_moe_block"),
    (#""hidden_size_per_layer_input": 256"#, "hidden_size_per_layer_input"),
    (#""use_bidirectional_attention": "all""#, "\"all\""),
    (#""per_layer_config": {"5": {"head_dim": 8}}"#, "per_layer_config"),
    (#""hidden_activation": "silu""#, "hidden_activation"),
    (#""attn_logit_softcapping": 50.0"#, "attn_logit_softcapping"),
    (#""num_attention_heads": 6, "num_key_value_heads": 4"#, "num_attention_heads"),
    (#""global_head_dim": 7"#, "head_dim"),
    (#""attention_k_eq_v": true, "num_global_key_value_heads": 3"#, "heads, 3"),
    (#""layer_types": ["full_attention"]"#, "layer_types"),
    (#""num_hidden_layers": 1, "layer_types": ["linear_attention"]"#, "linear_attention"),
    (#""rope_parameters": {"rope_theta": 10000}"#, "sliding_attention"),
    (
      #""rope_parameters": {"sliding_attention": {"rope_type": "yarn", "rope_theta": 1}}"#, "yarn"
    ),
    (#""rope_parameters": {"sliding_attention": {"rope_type": "default"}}"#, "rope_theta"),
    (
      #""num_hidden_layers": 1, "rope_parameters": {"full_attention": {"rope_theta": 1, "rope_type": "proportional", "partial_rotary_factor": 1.5}}"#,
      "partial_rotary_factor"
    ),
    (#""model_type": "gemma4_text""#, "gemma4_text"),
  ])
  func unsupportedSettingsAreNamed(setting: String, named: String) {
    let text = message { _ = try configuration(setting) }
    #expect(text.hasPrefix("config.json: ") && text.contains(named), "\(text)")
  }

  @Test(arguments: ["gemma4", "gemma3n", "t5", ""])
  func otherFamiliesAreNamed(type: String) throws {
    let text = message {
      _ = try GemmaConfiguration(
        Configuration(json: #"{"model_type": "\#(type)", "text_config": {}}"#, file: "config.json"))
    }
    #expect(
      text.contains("config.model_type: is \"\(type)\"") && text.contains("gemma4_unified"),
      "\(text)")
  }

  /// Floor of half the rotated part, of the frequencies of the whole head.
  @Test func proportionalFrequencies() throws {
    let frequencies = try GemmaPositions.frequencies(
      .init(theta: 16, factor: 2, rotatedPart: 0.7), headWidth: 8)
    let wanted: [Float] = [0.5, 0.25, 0, 0]
    #expect(try (frequencies - Tensor(wanted)).abs().max().item() < 1e-7)
  }
}

/// Small models with the hidden states that `transformers` computes (Tests/Oracles/gemma4.py).
@Suite struct Gemma4Tests {
  private static let fixtures = TokenizerFixtures.folder.deletingLastPathComponent()
    .appending(path: "gemma4")
  private let folder: ScratchModel

  init() throws { folder = try ScratchModel() }

  /// A folder that is removed with the value.
  private final class ScratchModel {
    let path = FileManager.default.temporaryDirectory.path + "/gemma4-\(UUID().uuidString)"

    init() throws {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit {
      do { try FileManager.default.removeItem(atPath: path) } catch {
        print("a test's folder remains: \(error)")
      }
    }
  }

  private func fixture(_ name: String) throws -> (config: String, tensors: SafetensorsFile) {
    (
      try String(contentsOf: Self.fixtures.appending(path: "\(name).json"), encoding: .utf8),
      try SafetensorsFile(path: Self.fixtures.appending(path: "\(name).safetensors").path)
    )
  }

  /// Writes the folder of a model.
  private func write(
    _ name: String, rename: (String) -> String? = { $0 },
    change: (String, Tensor) throws -> Tensor = { $1 }
  ) throws -> String {
    let (config, file) = try fixture(name)
    try Data(config.utf8).write(to: URL(filePath: folder.path + "/config.json"))
    try writeSafetensors(
      file.keys.filter { $0.hasPrefix("model.") }.compactMap { key in
        try rename(key).map { ($0, try change(key, file.tensor(key))) }
      }, to: folder.path + "/model.safetensors")
    return folder.path
  }

  /// The hidden states of the fixture's prompts, zeros on padding.
  private func states(_ path: String, _ name: String, dtype: DType = .float32) throws -> Tensor {
    let file = try fixture(name).tensors
    let mask = try file.tensor("case.mask")
    var states: [Tensor] = []
    try openTextEncoder(at: path, dtype: dtype).forEachHiddenState(
      ids: file.tensor("case.ids"), mask: mask
    ) { _, state in
      states.append(try state.maskedFill(mask.equal(to: 0).unsqueeze(-1), 0))
    }
    return try Tensor.stack(states).to(.float32)
  }

  @Test(arguments: ["shared", "separate"])
  func statesAreThoseOfTransformers(name: String) throws {
    let wanted = try fixture(name).tensors.tensor("case.states")
    let got = try states(write(name), name)
    #expect(got.shape == wanted.shape)
    #expect(try difference(got, wanted) < 1e-5 * wanted.abs().max().item())
    let rounded = try states(folder.path, name, dtype: .bfloat16)
    #expect(try difference(rounded, wanted) < 0.05 * wanted.abs().max().item())
  }

  /// The layouts of a single file: the language model flattened, with ComfyUI's names of the other
  /// parts or those of `transformers`, or all names of `transformers`.
  @Test(arguments: [
    ("model.", "vision_model.patch_dense.weight"),
    ("model.", "model.vision_embedder.pos_norm.bias"),
    ("model.language_model.", "model.embed_audio.embedding_projection.weight"),
    ("language_model.model.", "audio_projector.embedding_projection.weight"),
  ])
  func aSingleFileInEveryLayout(prefix: String, other: String) throws {
    let (config, file) = try fixture("shared")
    let path = folder.path + "/te.safetensors"
    let tokenizer = try Data(contentsOf: TokenizerFixtures.tokenizerFile)
    var tensors = try file.keys.filter { $0.hasPrefix("model.") }.map {
      (
        key: $0.replacing("model.language_model.", with: prefix), tensor: try file.tensor($0)
      )
    }
    tensors.append((other, try .ones([3, 3])))
    tensors.append(("tokenizer_json", try Tensor(Array(tokenizer))))
    tensors.append(("hf_asset__processor_config.json", try Tensor(Array("{}".utf8))))
    tensors.append(("text_embedding_projection.video_aggregate_embed.weight", try .ones([2, 2])))
    try writeSafetensors(tensors, metadata: ["gemma_config": config], to: path)
    let wanted = try file.tensor("case.states")
    #expect(try difference(states(path, "shared"), wanted) < 1e-5 * wanted.abs().max().item())

    let contents = try inspectTextEncoder(at: path)
    #expect(contents.modelType == "gemma4_unified" && contents.version == "test")
    #expect(contents.isPacked && contents.hasTokenizer)
    #expect(contents.knowinglyUnused.map(\.key) == [other])
    #expect(contents.assets.map(\.key) == ["hf_asset__processor_config.json", "tokenizer_json"])
    #expect(contents.projections.count == 1 && contents.unusedKeys.isEmpty)
    #expect(contents.languageModel.count == tensors.count - 4)

    // Only the language model takes memory: the largest layer counts for all.
    let costs = try textEncoderCosts(at: path, dtype: .bfloat16, storage: .asStored)
    func bytes(_ part: String) -> Int {
      file.entries.reduce(0) { $0 + ($1.key.contains(part) ? $1.value.byteCount : 0) }
    }
    #expect(costs.blocks == 4 && costs.fixedBytes == bytes("language_model.norm."))
    #expect(costs.weightBytes == max(bytes("layers.0."), bytes("layers.1.")))
    #expect(bytes("layers.0.") != bytes("layers.1."))
  }

  /// Any integer type holds the bytes of a tokenizer; floats don't.
  @Test(arguments: [DType.uint8, .int8, .int16, .int32, .int64])
  func aTokenizerInAnyIntegerType(dtype: DType) throws {
    let (config, _) = try fixture("shared")
    let path = folder.path + "/te.safetensors"
    let bytes = Array(try Data(contentsOf: TokenizerFixtures.tokenizerFile))
    func open(_ tensor: Tensor) throws -> Tokenizer {
      try writeSafetensors(
        [("tokenizer_json", tensor)], metadata: ["gemma_config": config], to: path)
      return try TextEncoderFiles(path: path).tokenizer()
    }
    let text = "<bos> a 猫 e\u{301} 😀"
    let wanted = try Tokenizer(contentsOf: TokenizerFixtures.tokenizerFile)
      .encode(text, addBOS: true)
    // Values count modulo 256.
    for offset in [0, 256] {
      let tensor = try Tensor(bytes.map { Int($0) + offset }).to(dtype)
      #expect(try open(tensor).encode(text, addBOS: true) == wanted)
    }
    #expect(
      message { _ = try open(Tensor(bytes).to(.float32)) }.contains("has no tensor of bytes"))
  }

  @Test func aTokenizerThatIsNotJSONNamesItsTensor() throws {
    let path = folder.path + "/te.safetensors"
    try writeSafetensors(
      [("tokenizer_json", try Tensor(Array("{\"model\"".utf8)))],
      metadata: ["gemma_config": try fixture("shared").config], to: path)
    let text = message { _ = try TextEncoderFiles(path: path).tokenizer() }
    #expect(text.contains("te.safetensors: tokenizer_json") && text.contains("JSON"), "\(text)")
    try writeSafetensors(
      [("tokenizer_json", try Tensor([UInt8(0)]))], metadata: ["gemma_config": "[1]"], to: path)
    let config = message { _ = try TextEncoderFiles(path: path).config() }
    #expect(config.contains("gemma_config") && config.contains("JSON object"), "\(config)")
  }

  @Test func aMissingOrMisshapenTensorIsNamed() throws {
    let scalar = "model.language_model.layers.2.layer_scalar"
    let missing = try write("shared", rename: { $0 == scalar ? nil : $0 })
    #expect(message { _ = try openTextEncoder(at: missing) }.contains("\(scalar) is missing"))
    let norm = "model.language_model.layers.1.self_attn.q_norm.weight"
    let misshapen = try write("shared", change: { $0 == norm ? try .ones([8]) : $1 })
    let text = message { _ = try openTextEncoder(at: misshapen) }
    #expect(text.contains(norm) && text.contains("[8]") && text.contains("[12]"), "\(text)")
    // A projection of values that the configuration doesn't have.
    let value = "model.language_model.layers.1.self_attn.v_proj.weight"
    let query = "model.language_model.layers.1.self_attn.q_proj.weight"
    let extra = try write("shared")
    var tensors = try SafetensorsFile(path: extra + "/model.safetensors").keys.map {
      (key: $0, tensor: try fixture("shared").tensors.tensor($0))
    }
    tensors.append((value, try fixture("shared").tensors.tensor(query)))
    try writeSafetensors(tensors, to: extra + "/model.safetensors")
    #expect(
      message { _ = try openTextEncoder(at: extra) }.contains("\(value) is not part of the model"))
  }

  @Test func quantizedAndStreamedWeightsGiveTheSame() throws {
    let path = try write("shared")
    let file = try fixture("shared").tensors
    func last(
      _ dtype: DType?, _ storage: WeightStorage = .asStored,
      _ placements: WeightPlacements = .resident
    ) throws -> Tensor {
      var last: Tensor?
      try openTextEncoder(
        at: path, dtype: dtype, storage: storage, placements: placements
      ).forEachHiddenState(ids: file.tensor("case.ids"), mask: file.tensor("case.mask")) {
        last = $1
      }
      return try #require(last).to(.float32)
    }
    #expect(try Tensor.isEqual(last(nil, .asStored, .all(.file)), last(nil)))
    let (exact, rounded) = (try last(.float32), try last(.float32, .int8))
    let error = try difference(rounded, exact)
    #expect(try error > 0 && error < 0.2 * exact.abs().max().item())
  }

  private struct Prompts: Decodable {
    struct Prompt: Decodable {
      let text: String
      let ids: [Int]
    }
    let limit: Int
    let pad: Int
    let prompts: [Prompt]
  }

  /// A tokenizer without a template gets `<bos>` in front, unless the text begins with it, and is
  /// truncated before and after.
  @Test func promptsWithoutATemplate() throws {
    let fixture = try JSONDecoder().decode(
      Prompts.self, from: Data(contentsOf: Self.fixtures.appending(path: "prompts.json")))
    var parts = try #require(
      try JSON(parsing: String(contentsOf: TokenizerFixtures.tokenizerFile, encoding: .utf8)).object
    )
    parts["post_processor"] = .null
    let tokenizer = try Tokenizer(
      json: Array(JSON.object(parts).text().utf8), file: "tokenizer.json")
    for prompt in fixture.prompts {
      let (ids, mask) = try tokenizer.encodePrompt(prompt.text)
      let padding = fixture.limit - prompt.ids.count
      #expect(
        ids == Array(repeating: fixture.pad, count: padding) + prompt.ids,
        "\(prompt.text.prefix(60).debugDescription)")
      #expect(
        mask == Array(repeating: 0, count: padding) + prompt.ids.map { _ in 1 },
        "\(prompt.text.prefix(60).debugDescription)")
    }
  }
}
