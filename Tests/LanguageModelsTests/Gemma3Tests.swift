import Foundation
import NN
import Testing
import Torch

@testable import LanguageModels

@Suite struct Gemma3ConfigurationTests {
  private func configuration(_ text: String) throws -> GemmaConfiguration {
    try GemmaConfiguration(Configuration(json: text, file: "config.json"))
  }

  @Test func publishedFilesLeaveOutWhatIsDefault() throws {
    // The values of google/gemma-3-12b-it.
    let c = try configuration(
      """
      {"model_type": "gemma3", "text_config": {"hidden_size": 3840, "intermediate_size": 15360,
        "model_type": "gemma3_text", "num_attention_heads": 16, "num_hidden_layers": 48, "num_key_value_heads": 8,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}}
      """)
    #expect(c.vocabulary == 262_208)
    #expect(c.sliding.headWidth == 256 && c.global.headWidth == 256)
    #expect(c.attentionScale == 1.0 / 16)
    #expect(c.normEps == 1e-6)
    #expect(c.layers.count == 48)
    #expect(c.layers.indices.filter { c.layers[$0] == .global } == [5, 11, 17, 23, 29, 35, 41, 47])
    #expect(c.sliding.rotation == .init(theta: 10_000, factor: 1))
    #expect(c.global.rotation == .init(theta: 1_000_000, factor: 8))
  }

  @Test func olderAndNewerSpellingsMeanTheSame() throws {
    let older = try configuration(
      """
      {"model_type": "gemma3_text", "num_hidden_layers": 3, "sliding_window_pattern": 2, "rope_theta": 5000,
       "rope_local_base_freq": 300, "rope_scaling": {"type": "linear", "factor": 4}}
      """)
    let newer = try configuration(
      """
      {"model_type": "gemma3_text", "num_hidden_layers": 3,
       "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
       "rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 300},
         "full_attention": {"rope_type": "linear", "factor": 4, "rope_theta": 5000}}}
      """)
    #expect(older.layers == [.sliding, .global, .sliding])
    #expect(older.layers == newer.layers)
    #expect(older.sliding.rotation == .init(theta: 300, factor: 1))
    #expect(older.sliding.rotation == newer.sliding.rotation)
    #expect(older.global.rotation == .init(theta: 5000, factor: 4))
    #expect(older.global.rotation == newer.global.rotation)
  }

  @Test(arguments: [
    (#""num_attention_heads": 3"#, "num_attention_heads"),
    (#""head_dim": 5"#, "head_dim"),
    (#""hidden_size": 0"#, "hidden_size"),
    (#""hidden_size": "wide""#, "hidden_size"),
    (#""sliding_window_pattern": 0"#, "sliding_window_pattern"),
    (#""num_hidden_layers": 2, "layer_types": ["full_attention"]"#, "layer_types"),
    (#""num_hidden_layers": 1, "layer_types": ["chunked_attention"]"#, "chunked_attention"),
    (#""rope_scaling": {"rope_type": "yarn", "factor": 8}"#, "yarn"),
    (#""rope_scaling": {"rope_type": "linear"}"#, "factor"),
    (#""rope_parameters": {"rope_theta": 10000}"#, "rope_theta"),
    (#""query_pre_attn_scalar": 0"#, "query_pre_attn_scalar"),
    (#""hidden_activation": "silu""#, "hidden_activation"),
    (#""attn_logit_softcapping": 50.0"#, "attn_logit_softcapping"),
    (#""use_bidirectional_attention": true"#, "use_bidirectional_attention"),
  ])
  func unsupportedSettingsAreNamed(setting: String, named: String) {
    let text = message { _ = try configuration(#"{"model_type": "gemma3_text", \#(setting)}"#) }
    #expect(text.hasPrefix("config.json: ") && text.contains(named), "\(text)")
  }

  @Test func aMultimodalFileNeedsItsTextPart() {
    #expect(
      message { _ = try configuration(#"{"model_type": "gemma3"}"#) }.contains(
        "text_config: is missing"))
  }
}

@Suite struct Gemma3Tests {
  private let prompt = [2, 7, 19, 33, 4, 11, 28, 5]

  @Test(arguments: ["model.language_model", "model"])
  func everyLayoutOfKeysIsTheSameModel(prefix: String) throws {
    let states = try TinyGemma3(prefix: prefix).states([prompt])
    #expect(states.shape == [4, 1, 8, TinyGemma3.width])
    #expect(try Tensor.isEqual(states, TinyGemma3().states([prompt])))
  }

  @Test func embeddingsAreScaledInTheWeightsOwnPrecision() throws {
    let embedding = try Tensor.full([TinyGemma3.vocabulary, TinyGemma3.width], 1.375)
    let model = try TinyGemma3(replacing: ["embed_tokens.weight": embedding])
    let exact = try model.states([prompt]).select(0, 0)
    #expect(try difference(exact, .full(exact.shape, Scalar(1.375 * 12.0.squareRoot()))) < 1e-6)
    // sqrt(12) = 3.4641 is 3.46875 in bfloat16, which gives 4.78125; without that rounding the
    // product is 4.75.
    let rounded = try model.states([prompt], dtype: .bfloat16).select(0, 0)
    #expect(try Tensor.isEqual(rounded, .full(rounded.shape, 4.78125)))
  }

  @Test func onlyTheLastStateIsNormalized() throws {
    let model = try TinyGemma3(replacing: ["norm.weight": Tensor.zeros([TinyGemma3.width])])
    let meanSquares = try model.states([prompt]).square().mean([-1])  // [states, 1, S]
    #expect(try difference(meanSquares.select(0, 3), .ones([1, 8])) < 1e-4)
    #expect(try difference(meanSquares.select(0, 2), .ones([1, 8])) > 0.1)
  }

  @Test func paddingOnTheLeftChangesNothing() throws {
    let model = try TinyGemma3()
    let plain = try model.states([prompt])
    let padded = try model.states(
      [Array(repeating: 0, count: 5) + prompt],
      mask: [Array(repeating: 0, count: 5) + prompt.map { _ in 1 }])
    // Positions count the padding, but only their differences matter: the results are equal up to
    // rounding.
    #expect(try difference(padded.narrow(2, 5, 8), plain) < 1e-4)
    #expect(try padded.isFinite().all().item() == 1)
  }

  @Test func promptsOfABatchDontSeeEachOther() throws {
    let model = try TinyGemma3()
    let other = [2, 3, 3, 3, 3, 3, 3, 3]
    let both = try model.states([prompt, other])
    #expect(try difference(both.narrow(1, 0, 1), model.states([prompt])) < 1e-5)
  }

  @Test func attentionIsCausal() throws {
    let model = try TinyGemma3()
    let before = try model.states([prompt])
    let after = try model.states([prompt.dropLast() + [39]])
    #expect(try difference(before.narrow(2, 0, 7), after.narrow(2, 0, 7)) < 1e-6)
    #expect(try difference(before.narrow(2, 7, 1), after.narrow(2, 7, 1)) > 0.01)
  }

  @Test func slidingLayersReachAsFarAsTheirWindow() throws {
    // In two sliding layers of window 4 a token reaches 6 back; the global layer after them reaches
    // everything.
    let model = try TinyGemma3()
    let before = try model.states([prompt])
    let after = try model.states([[9] + prompt.dropFirst()])
    func change(layer: Int, token: Int) throws -> Double {
      try difference(
        before.select(0, layer).narrow(1, token, 1), after.select(0, layer).narrow(1, token, 1))
    }
    #expect(try change(layer: 1, token: 3) > 1e-4)
    #expect(try change(layer: 1, token: 4) == 0)
    #expect(try change(layer: 2, token: 6) > 1e-6)
    #expect(try change(layer: 2, token: 7) == 0)
    #expect(try change(layer: 3, token: 7) > 1e-4)
  }

  @Test(arguments: [
    ("query_pre_attn_scalar", "16"), ("sliding_window", "2"), ("sliding_window_pattern", "2"),
    ("rope_theta", "100"), ("rope_local_base_freq", "100"), ("rms_norm_eps", "0.1"),
    ("rope_scaling", #"{"rope_type": "linear", "factor": 8}"#),
  ])
  func everySettingMatters(key: String, value: String) throws {
    let value = try JSONSerialization.jsonObject(with: Data(value.utf8), options: .fragmentsAllowed)
    let changed = try TinyGemma3([key: value]).states([prompt])
    #expect(try difference(changed, TinyGemma3().states([prompt])) > 1e-3)
  }

  @Test func aMissingOrMisshapenTensorIsNamed() throws {
    let key = "layers.1.self_attn.k_proj.weight"
    let missing = try TinyGemma3(replacing: [key: nil])
    #expect(
      message { _ = try missing.states([prompt]) }.contains(
        "language_model.model.\(key) is missing"))
    let misshapen = try TinyGemma3(replacing: [key: Tensor.zeros([12, 13])])
    let text = message { _ = try misshapen.states([prompt]) }
    #expect(text.contains(key) && text.contains("[12, 13]") && text.contains("[12, 12]"), "\(text)")
    let unknown = try TinyGemma3(prefix: "decoder")
    #expect(
      message { _ = try unknown.states([prompt]) }.contains("embed_tokens.weight is missing below"))
  }

  @Test func idsThatDontFitAreRefused() throws {
    let model = try TinyGemma3()
    #expect(
      message { _ = try model.states([[2, 40]]) }.contains("vocabulary, 40 (got 40)"))
    #expect(message { _ = try model.states([[2, -1]]) }.contains("(got -1)"))
    #expect(message { _ = try model.states([[2, 3]], mask: [[1]]) } != "nothing was thrown")
    let encoder = try openTextEncoder(at: model.folder)
    let text = message {
      try encoder.forEachHiddenState(ids: Tensor([2, 3]), mask: Tensor([1, 1])) { _, _ in }
    }
    #expect(text.contains("[N, S]"), "\(text)")
  }

  @Test func anotherModelOrNoModelIsRefused() throws {
    let folder = try TinyGemma3().folder
    #expect(
      message { _ = try openTextEncoder(at: folder + "/none") }.contains("none: does not exist"))
    let model = try TinyGemma3()
    let path = model.folder + "/config.json"
    try Data(#"{"model_type": "llama"}"#.utf8).write(to: URL(filePath: path))
    #expect(message { _ = try openTextEncoder(at: model.folder) }.contains("\"llama\""))
  }
}
