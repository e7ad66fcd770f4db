import Foundation
import NN
import Support
import Testing

@testable import LanguageModels

@Suite struct QwenOmniConfigurationTests {
  /// A temporary folder with the configuration of a fixture model, changed in one place.
  private func problem(
    _ name: String = "qwen3_omni", replacing part: String, with other: String
  ) throws -> String {
    let folder = FileManager.default.temporaryDirectory.path + "/omni-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let text = try String(
      contentsOfFile: "\(DecoderTests.folder(name))/config.json", encoding: .utf8)
    let compact = try JSON(parsing: text).text()
    let changed = compact.replacing(part, with: other, maxReplacements: 1)
    try #require(changed != compact, "\(part)")
    try changed.write(toFile: "\(folder)/config.json", atomically: true, encoding: .utf8)
    return message { _ = try QwenOmniConfiguration(folder: folder) }
  }

  @Test func bothFamiliesAreRead() throws {
    let dense = try QwenOmniConfiguration(folder: DecoderTests.folder("qwen25_omni"))
    #expect(dense.family == .qwen25 && dense.positionsPerSecond == 25)
    #expect(dense.text.hasInputBias && !dense.text.hasOutputBias && !dense.text.normalizesHeads)
    #expect(dense.text.components == [0, 1, 1, 2, 2, 2])
    #expect(dense.tokens.ends.count == 2)
    let sparse = try QwenOmniConfiguration(folder: DecoderTests.folder("qwen3_omni"))
    #expect(sparse.family == .qwen3 && sparse.positionsPerSecond == 13)
    #expect(!sparse.text.hasInputBias && sparse.text.normalizesHeads)
    #expect(sparse.text.components == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
    #expect(sparse.text.headWidth == 20)
  }

  @Test(arguments: [
    (#""model_type":"qwen3_omni_moe","#, #""model_type":"llama","#, "\"llama\""),
    (#""num_experts_per_tok":2"#, #""num_experts_per_tok":9"#, "num_experts_per_tok"),
    (#""head_dim":20"#, #""head_dim":21"#, "head_dim"),
    (#""num_key_value_heads":2"#, #""num_key_value_heads":3"#, "num_attention_heads"),
    (#""rope_type":"default""#, #""rope_type":"yarn""#, "\"yarn\""),
    (#""mrope_section":[4,3,3]"#, #""mrope_section":[4,3]"#, "mrope_section"),
    (#""mrope_section":[4,3,3]"#, #""mrope_section":[4,9,3]"#, "mrope_section"),
    (#""vocab_size":384"#, #""vocab_size":"384""#, "vocab_size"),
    (#""thinker_config""#, #""thinker""#, "thinker_config"),
    (
      #""thinker_config":{"#, #""thinker_config":{"quantization_config":{"quant_method":"awq"},"#,
      "awq"
    ),
  ])
  func unsupportedValuesAreNamed(part: String, other: String, named: String) throws {
    #expect(try problem(replacing: part, with: other).contains(named))
  }

  @Test func foldersWithoutAModelAreRefused() {
    #expect(
      message { _ = try QwenOmniConfiguration(folder: "/nowhere") }.contains("is not a folder"))
    #expect(
      message { _ = try QwenOmniConfiguration(folder: NSTemporaryDirectory()) }.contains(
        "has no config.json"))
  }
}
