import NN
import Support
import TensorFiles
import Testing
import Torch

@testable import LanguageModels

/// Properties of the towers on the fixtures' models. Their numbers are compared with the reference
/// by the cases in Tests/Fixtures/caption-towers.
@Suite struct OmniTowerTests {
  private func towers(_ name: String) throws -> QwenOmniTowers {
    let folder = DecoderTests.folder(name)
    let thinker =
      try Weights(ShardedSafetensors(folder: folder), LoadPolicy(dtype: .float32)) / "thinker"
    return try QwenOmniTowers(thinker, QwenOmniConfiguration(folder: folder))
  }

  private func wave(_ shape: [Int]) throws -> Tensor {
    let count = shape.reduce(1, *)
    return try (Tensor.arange(to: Scalar(count), dtype: .float32) * 0.7).sin().reshape(shape)
  }

  private func difference(_ a: Tensor, _ b: Tensor) throws -> Double {
    try #require(a.shape == b.shape)
    return try (a - b).abs().max().item()
  }

  /// A clip is encoded like its frames one by one, in both families.
  @Test(arguments: ["qwen25_omni", "qwen3_omni"])
  func framesDoNotSeeEachOther(name: String) throws {
    let vision = try towers(name).vision
    let pixels = try wave([2 * 4 * 6, 96])
    let together = try vision(pixels: pixels, grid: [[2, 4, 6]])
    let halves = try pixels.chunk(2).map { try vision(pixels: $0, grid: [[1, 4, 6]]) }
    #expect(
      try difference(together.embeddings, Tensor.cat(halves.map(\.embeddings))) < 1e-5)
    #expect(together.deepstack.count == (name == "qwen3_omni" ? 2 : 0))
    for (level, whole) in together.deepstack.enumerated() {
      #expect(try difference(whole, Tensor.cat(halves.map { $0.deepstack[level] })) < 1e-5)
    }
  }

  /// In Qwen2.5-Omni, recordings of a request don't depend on each other.
  @Test func paddingIsNotHeard() throws {
    let audio = try towers("qwen25_omni").audio
    let features = try wave([2, 128, 90])
    let mask = try Tensor((0..<180).map { $0 < 90 || $0 - 90 < 33 ? 1 : 0 }, shape: [2, 90])
    let together = try audio(features: features, mask: mask)
    let first = try audio(features: features.narrow(0, 0, 1), mask: mask.narrow(0, 0, 1))
    let second = try audio(
      features: features.narrow(0, 1, 1).narrow(2, 0, 33),
      mask: mask.narrow(0, 1, 1).narrow(1, 0, 33))
    #expect(try difference(together, Tensor.cat([first, second])) < 1e-5)
  }

  /// One frame of a spectrogram has no token in Qwen2.5-Omni, and one in Qwen3-Omni.
  @Test(arguments: [("qwen25_omni", 0), ("qwen3_omni", 1)])
  func theShortestRecordings(name: String, tokens: Int) throws {
    let audio = try towers(name).audio
    let one = try Tensor([1], shape: [1, 1])
    #expect(try audio(features: wave([1, 128, 1]), mask: one).shape == [tokens, 48])
    let none = try Tensor([0], shape: [1, 1])
    #expect(try audio(features: wave([1, 128, 1]), mask: none).shape == [0, 48])
  }

  @Test func inputsThatDoNotFitAreRefused() throws {
    let towers = try towers("qwen3_omni")
    let pictures: [(shape: [Int], grid: [[Int]])] = [
      ([24, 96], [[1, 4, 8]]), ([24, 95], [[1, 4, 6]]), ([24, 96], [[1, 3, 8]]), ([0, 96], []),
    ]
    for (shape, grid) in pictures {
      #expect(throws: Support.Issue.self) {
        try towers.vision(pixels: Tensor.zeros(shape), grid: grid)
      }
    }
    let recordings: [(shape: [Int], mask: [Int])] = [
      ([1, 128, 4], [1, 0, 1, 0]), ([1, 128, 4], [1, 1, 1]), ([1, 127, 4], [1, 1, 1, 1]),
    ]
    for (shape, mask) in recordings {
      #expect(throws: Support.Issue.self) {
        try towers.audio(
          features: Tensor.zeros(shape), mask: Tensor(mask, shape: [1, mask.count]))
      }
    }
  }
}

@Suite struct OmniTowerConfigurationTests {
  private func vision(_ changes: String, _ family: QwenOmniFamily) throws -> VisionConfiguration {
    let sizes =
      #""depth": 4, "hidden_size": 24, "intermediate_size": 36, "num_heads": 2, "out_hidden_size": 8"#
    return try VisionConfiguration(
      Configuration(json: "{\(sizes), \(changes)}", file: "test"), family: family)
  }

  private func audio(_ changes: String, _ family: QwenOmniFamily) throws -> AudioConfiguration {
    let sizes =
      #""encoder_layers": 2, "encoder_ffn_dim": 40, "output_dim": 48, "encoder_attention_heads": 3"#
    return try AudioConfiguration(
      Configuration(json: "{\(sizes), \(changes)}", file: "test"), family: family)
  }

  @Test(arguments: [
    #""hidden_act": "gelu""#, #""temporal_patch_size": 1"#, #""in_channels": 4"#,
    #""window_size": 20"#, #""spatial_merge_size": 0"#, #""depth": 0"#,
  ])
  func unsupportedVisionTowersOf25AreRefused(change: String) throws {
    let blocks = #""fullatt_block_indexes": [1]"#
    #expect(throws: Never.self) { try vision(blocks, .qwen25) }
    #expect(throws: Support.Issue.self) {
      try VisionConfiguration(
        Configuration(
          json: #"{"hidden_size": 24, "intermediate_size": 36, "num_heads": 2, "#
            + #""out_hidden_size": 8, "#
            + (change.contains("depth") ? change : #""depth": 4, "# + change) + ", \(blocks)}",
          file: "test"), family: .qwen25)
    }
  }

  @Test(arguments: [
    #""num_position_embeddings": 50, "deepstack_visual_indexes": [1]"#,
    #""hidden_act": "silu", "deepstack_visual_indexes": [1]"#,
    #""deepstack_visual_indexes": [2, 1]"#, #""deepstack_visual_indexes": [1, 1]"#,
    #""deepstack_visual_indexes": [4]"#,
  ])
  func unsupportedVisionTowersOf3AreRefused(change: String) {
    #expect(throws: Support.Issue.self) { try vision(change, .qwen3) }
  }

  @Test(arguments: [
    #""d_model": 25"#, #""d_model": 24, "activation_function": "relu""#,
    #""d_model": 24, "scale_embedding": true"#, #""d_model": 24, "n_window": 0"#,
  ])
  func unsupportedAudioTowersAreRefused(change: String) {
    #expect(throws: Support.Issue.self) { try audio(change, .qwen25) }
    #expect(throws: Support.Issue.self) {
      try audio(change + #", "downsample_hidden_size": 6"#, .qwen3)
    }
  }

  @Test func windowsHoldAChunk() {
    #expect(throws: Support.Issue.self) {
      try audio(#""d_model": 24, "downsample_hidden_size": 6, "n_window_infer": 80"#, .qwen3)
    }
  }

  /// The published sizes: 2 s of audio are 50 tokens in Qwen2.5-Omni, 8 s are 104 in Qwen3-Omni.
  @Test func recordingsHaveTheirTokens() throws {
    let old = try audio(#""d_model": 24"#, .qwen25)
    #expect(
      [0, 1, 2, 3, 4, 200, 201, 203].map(old.tokens(ofFrames:)) == [0, 0, 0, 1, 1, 50, 50, 51])
    let new = try audio(#""d_model": 24, "downsample_hidden_size": 6"#, .qwen3)
    #expect(new.chunksPerWindow == 8)
    #expect([0, 1, 9, 100, 101, 800].map(new.tokens(ofFrames:)) == [0, 1, 2, 13, 14, 104])
  }
}
