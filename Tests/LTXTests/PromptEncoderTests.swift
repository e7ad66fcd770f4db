import Foundation
import NN
import Support
import TensorFiles
import Testing
import Torch

@testable import LTX

/// From a prompt's characters to features, with a one-layer Gemma 3 in a real folder.
@Suite final class PromptEncoderTests {
  private let folder: String
  private let encoder: PromptEncoder

  init() throws {
    let folder = FileManager.default.temporaryDirectory.path + "/prompts-\(UUID().uuidString)"
    self.folder = folder
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let fixtures = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: "Fixtures/tokenizer/tokenizer.json")
    try FileManager.default.copyItem(atPath: fixtures.path, toPath: folder + "/tokenizer.json")
    let vocabulary = try openTokenizer(at: folder).vocabularySize
    try Data(
      """
      {"model_type": "gemma3_text", "vocab_size": \(vocabulary), "hidden_size": 4, "intermediate_size": 8,
       "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 4}
      """.utf8
    ).write(to: URL(filePath: folder + "/config.json"))
    let random = try Generator(seed: 1)
    func write(_ shapes: [String: [Int]], to name: String) throws {
      let tensors = try shapes.sorted { $0.key < $1.key }.map {
        (key: $0, tensor: try random.normal($1))
      }
      try writeSafetensors(tensors, to: "\(folder)/\(name)")
    }
    let layer = "model.layers.0"
    var shapes = ["model.embed_tokens.weight": [vocabulary, 4], "model.norm.weight": [4]]
    for name in ["q_proj", "k_proj", "v_proj", "o_proj"] {
      shapes["\(layer).self_attn.\(name).weight"] = [4, 4]
    }
    for name in ["q_norm", "k_norm"] { shapes["\(layer).self_attn.\(name).weight"] = [4] }
    for name in ["gate_proj", "up_proj"] { shapes["\(layer).mlp.\(name).weight"] = [8, 4] }
    shapes["\(layer).mlp.down_proj.weight"] = [4, 8]
    for name in ["input", "post_attention", "pre_feedforward", "post_feedforward"] {
      shapes["\(layer).\(name)_layernorm.weight"] = [4]
    }
    try write(shapes, to: "model.safetensors")
    try write(["text_embedding_projection.aggregate_embed.weight": [4, 8]], to: "ltx.safetensors")
    encoder = try PromptEncoder(
      checkpoint: Weights(SafetensorsFile(path: folder + "/ltx.safetensors")),
      configuration: TextConfiguration(
        Configuration(json: #"{"transformer": {}}"#, file: "ltx.safetensors")),
      textEncoder: folder)
  }

  deinit {
    do {
      try FileManager.default.removeItem(atPath: folder)
    } catch {
      print("a test's folder remains: \(error)")
    }
  }

  @Test func featuresOfABatchAreThoseOfEachPrompt() throws {
    let prompts = ["A cat walks.", "", "  A cat walks.\n"]
    let features = try encoder(prompts)
    #expect(features.byModality.video.shape == [3, 1024, 4])
    let lengths = try features.mask.sum([1]).array(of: Int.self)
    #expect(lengths[1] == 1)  // nothing but <bos>
    #expect(lengths[0] == lengths[2] && lengths[0] > 3)
    for (row, prompt) in prompts.enumerated() {
      let alone = try encoder([prompt]).byModality.video.select(0, 0)
      #expect(try (features.byModality.video.select(0, row) - alone).abs().max().item() < 1e-5)
      let padding = 1024 - lengths[row]
      #expect(try alone.narrow(0, 0, padding).abs().max().item() == 0)
      #expect(try alone.narrow(0, padding, lengths[row]).abs().max().item() > 0.01)
    }
  }

  /// Skipped padding changes only the order of roundings.
  @Test func featuresEqualThoseOfTheFullLength() throws {
    let prompts = ["A cat walks.", "A cat walks, and then it sits down to look at a bird."]
    let features = try encoder(prompts)
    let (ids, mask) = try encoder.tokenizer.tensors(prompts)
    let whole = try withoutGrad { try encoder.extractor(encoder.encoder, ids: ids, mask: mask) }
    #expect(try features.mask.equal(to: whole.mask).all().item() == 1)
    #expect(try (features.byModality.video - whole.byModality.video).abs().max().item() < 1e-5)
    #expect(try whole.byModality.video.abs().max().item() > 0.01)
  }

  @Test func noPromptsAreRefused() { #expect(throws: Support.Issue.self) { try self.encoder([]) } }
}
