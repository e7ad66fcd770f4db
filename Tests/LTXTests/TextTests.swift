import Foundation
import LanguageModels
import NN
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX

@Suite struct TextConfigurationTests {
  private static let projectedBefore =
    #""caption_proj_before_connector": true, "caption_projection_first_linear": false, "#
    + #""caption_proj_input_norm": false, "caption_projection_second_linear": false"#

  private func configuration(_ settings: String) throws -> TextConfiguration {
    try TextConfiguration(
      Configuration(json: #"{"transformer": {\#(settings)}}"#, file: "a.safetensors"))
  }

  @Test func withoutMarksFeaturesAreShared() throws {
    let c = try configuration(
      #""connector_num_attention_heads": 3, "connector_attention_head_dim": 16"#)
    #expect(c.features == .shared)
    #expect(c.connectors.video.width == 48)
    // Settings that the audio connector doesn't have come from the video connector.
    #expect(c.connectors.audio.width == 48)
    #expect(
      !c.connectors.video.hasDoublePrecisionFrequencies && !c.connectors.video.isGated
        && c.connectors.video.maxPosition == 1)
  }

  @Test func allMarkersGiveFeaturesPerModality() throws {
    let c = try configuration(
      Self.projectedBefore
        + #", "num_attention_heads": 8, "attention_head_dim": 16, "audio_num_attention_heads": 4, "#
        + #""audio_attention_head_dim": 8, "connector_num_attention_heads": 4, "connector_attention_head_dim": 32, "#
        + #""audio_connector_num_attention_heads": 2, "audio_connector_attention_head_dim": 16, "#
        + #""connector_apply_gated_attention": true, "frequencies_precision": "float64""#)
    #expect(c.features == .perModality(video: 128, audio: 32))
    #expect(
      c.connectors.video.isGated && c.connectors.audio.isGated
        && c.connectors.audio.hasDoublePrecisionFrequencies)
  }

  @Test(arguments: [
    (#""caption_proj_before_connector": true"#, "caption_projection_first_linear: is missing"),
    (#""caption_proj_before_connector": false"#, "caption_proj_before_connector: must be true"),
    (#""rope_type": "spiral""#, "rope_type: is \"spiral\""),
    (#""connector_num_attention_heads": 0"#, "connector_num_attention_heads"),
    (
      #""connector_positional_embedding_max_pos": [1, 2]"#, "connector_positional_embedding_max_pos"
    ),
    (projectedBefore + #", "connector_num_attention_heads": 2"#, "256"),
  ])
  func unsupportedSettingsAreNamed(settings: String, named: String) {
    let text = message { _ = try configuration(settings) }
    #expect(text.hasPrefix("a.safetensors: config.transformer.") && text.contains(named), "\(text)")
  }
}

@Suite struct FeatureExtractorTests {
  /// A text encoder that returns the same hidden states for any input.
  private struct Fixed: TextEncoder {
    let states: [Tensor]
    var width: Int { states[0].size(2) }
    var hiddenStateCount: Int { states.count }

    func forEachHiddenState(
      ids: Tensor, mask: Tensor, firstPosition: Int, _ visit: (Int, Tensor) throws -> Void
    ) throws {
      for (index, state) in states.enumerated() { try visit(index, state) }
    }
  }

  private static let shared = #"{"transformer": {"connector_num_attention_heads": 1}}"#
  /// Modalities with widths of 8 and 2.
  private static let perStream = """
    {"transformer": {"caption_proj_before_connector": true, "caption_projection_first_linear": false,
      "caption_proj_input_norm": false, "caption_projection_second_linear": false,
      "num_attention_heads": 4, "attention_head_dim": 2, "audio_num_attention_heads": 1, "audio_attention_head_dim": 2,
      "connector_num_attention_heads": 4, "connector_attention_head_dim": 2, "audio_connector_num_attention_heads": 1}}
    """

  private func extract(
    _ config: String, _ weights: [String: Tensor], _ states: [Tensor], mask: [Int]
  ) throws -> TextFeatures {
    let folder = try WeightsFolder()
    let encoder = Fixed(states: states)
    let extractor = try FeatureExtractor(
      folder.weights(weights.map { ("text_embedding_projection.\($0).weight", $1) }),
      configuration: TextConfiguration(Configuration(json: config, file: "a.safetensors")),
      width: encoder.width, hiddenStateCount: encoder.hiddenStateCount)
    let mask = try Tensor(mask, shape: [1, mask.count])
    return try extractor(encoder, ids: mask, mask: mask)
  }

  @Test func sharedFeaturesAreNormalizedOverThePrompt() throws {
    // One token of padding, two of text with the numbers 1, 2, 3, 6: mean 3, range 5.
    let state = try Tensor([Float](arrayLiteral: 100, -100, 1, 2, 3, 6), shape: [1, 3, 2])
    let other = try state * 2 + 1  // the same once it is normalized
    // Uses hidden state 0's first element and hidden state 1's second: the layer is the fastest
    // dimension.
    let weight = try Tensor([Float](arrayLiteral: 1, 0, 0, 0, 0, 0, 0, 1), shape: [2, 4])
    let features = try extract(
      Self.shared, ["aggregate_embed": weight], [state, other], mask: [0, 1, 1])
    let wanted: [Float] = [0, 0, -3.2, -1.6, 0, 4.8]
    #expect(try difference(features.byModality.video, Tensor(wanted, shape: [1, 3, 2])) < 1e-5)
    #expect(features.byModality.audio === features.byModality.video)
    #expect(try features.mask.array(of: Int.self) == [0, 1, 1])
  }

  @Test func sidesOfPaddingGiveTheSameFeatures() throws {
    let text = try Generator(seed: 3).normal([1, 4, 2])
    let padding = try Tensor.full([1, 3, 2], 50)
    let weights = ["aggregate_embed": try Generator(seed: 4).normal([2, 2])]
    let left = try extract(
      Self.shared, weights, [Tensor.cat([padding, text], 1)], mask: [0, 0, 0, 1, 1, 1, 1])
    let right = try extract(
      Self.shared, weights, [Tensor.cat([text, padding], 1)], mask: [1, 1, 1, 1, 0, 0, 0])
    #expect(
      try difference(left.byModality.video.narrow(1, 3, 4), right.byModality.video.narrow(1, 0, 4))
        < 1e-6)
    #expect(try right.byModality.video.narrow(1, 4, 3).abs().max().item() == 0)
  }

  @Test func featuresPerModalityAreNormalizedPerToken() throws {
    // The root mean square is 5 after the padding.
    let state = try Tensor([Float](arrayLiteral: 9, 9, 1, 7), shape: [1, 2, 2])
    let folder = try WeightsFolder()
    let weights = try folder.weights([
      ("text_embedding_projection.video_aggregate_embed.weight", Tensor.ones([8, 2])),
      ("text_embedding_projection.video_aggregate_embed.bias", Tensor.full([8], 0.5)),
      ("text_embedding_projection.audio_aggregate_embed.weight", Tensor.ones([2, 2])),
      ("text_embedding_projection.audio_aggregate_embed.bias", Tensor.zeros([2])),
    ])
    let extractor = try FeatureExtractor(
      weights, configuration: TextConfiguration(Configuration(json: Self.perStream, file: "a")),
      width: 2,
      hiddenStateCount: 1)
    let mask = try Tensor([0, 1], shape: [1, 2])
    let features = try extractor(Fixed(states: [state]), ids: mask, mask: mask)
    // 8 / 5 times the square root of outputs over width; padding gives the bias.
    let video = try Tensor.cat([Tensor.full([1, 1, 8], 0.5), Tensor.full([1, 1, 8], 3.7)], 1)
    #expect(try difference(features.byModality.video, video) < 1e-5)
    let audio = try Tensor.cat([Tensor.zeros([1, 1, 2]), Tensor.full([1, 1, 2], 1.6)], 1)
    #expect(try difference(features.byModality.audio, audio) < 1e-5)
  }

  @Test func aCheckpointForAnotherTextEncoderIsRefused() throws {
    let state = try Tensor.zeros([1, 3, 2])
    let text = message {
      _ = try extract(
        Self.shared, ["aggregate_embed": Tensor.zeros([2, 5])], [state, state], mask: [1, 1, 1])
    }
    #expect(
      text.contains("text_embedding_projection.aggregate_embed.weight has shape [2, 5]"), "\(text)")
    #expect(text.contains("made for another text encoder"))
  }
}

@Suite struct TextConnectorsTests {
  private static let config = """
    {"transformer": {"connector_num_attention_heads": 2, "connector_attention_head_dim": 4,
      "connector_positional_embedding_max_pos": [4096], "connector_num_layers": 1}}
    """

  /// Connectors with a width of 8 and 4 registers each.
  private func tensors() throws -> [String: Tensor] {
    let random = try Generator(seed: 5)
    var all: [String: Tensor] = [:]
    for modality in ["video", "audio"] {
      let path = "\(modality)_embeddings_connector"
      all["\(path).learnable_registers"] = try random.normal([4, 8])
      let block = "\(path).transformer_1d_blocks.0"
      for name in ["attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0"] {
        all["\(block).\(name).weight"] = try random.normal([8, 8]) * 0.5
        all["\(block).\(name).bias"] = try random.normal([8]) * 0.5
      }
      for name in ["q_norm", "k_norm"] {
        all["\(block).attn1.\(name).weight"] = try random.normal([8])
      }
      all["\(block).ff.net.0.proj.weight"] = try random.normal([32, 8]) * 0.5
      all["\(block).ff.net.0.proj.bias"] = try random.normal([32]) * 0.5
      all["\(block).ff.net.2.weight"] = try random.normal([8, 32]) * 0.5
      all["\(block).ff.net.2.bias"] = try random.normal([8]) * 0.5
    }
    return all
  }

  private func connect(
    _ features: Tensor, mask: [Int], modalities: Set<Modality> = .both,
    change: (inout [String: Tensor]) throws -> Void = { _ in }
  ) throws -> TextContexts {
    var all = try tensors()
    try change(&all)
    let configuration = try TextConfiguration(
      Configuration(json: Self.config, file: "a.safetensors"))
    let connectors = try TextConnectors(
      WeightsFolder().weights(all.map { ($0, $1) }), configuration: configuration,
      modalities: modalities)
    return try connectors(
      TextFeatures(
        PerModality(video: features, audio: features), mask: Tensor(mask, shape: [1, mask.count])))
  }

  private let text: Tensor

  init() throws { text = try Generator(seed: 6).normal([1, 3, 8]) }

  /// The content of padding must not matter: here it is NaN.
  private func padding(_ count: Int) throws -> Tensor {
    try Tensor.full([1, count, 8], Scalar(Double.nan))
  }

  @Test func paddingMayBeOnEitherSide() throws {
    let left = try connect(.cat([padding(5), text], 1), mask: [0, 0, 0, 0, 0, 1, 1, 1])
    let right = try connect(.cat([text, padding(5)], 1), mask: [1, 1, 1, 0, 0, 0, 0, 0])
    let video = try #require(left.byModality.video)
    #expect(try video.isFinite().all().item() == 1)
    #expect(try Tensor.isEqual(video, #require(right.byModality.video)))
    #expect(try Tensor.isEqual(#require(left.byModality.audio), #require(right.byModality.audio)))
    // Each modality has its own connector.
    #expect(try difference(video, #require(left.byModality.audio)) > 0.1)
    #expect(try left.mask.array(of: Int.self) == Array(repeating: 1, count: 8))
  }

  @Test func registersStandWherePaddingWas() throws {
    let key = "video_embeddings_connector.learnable_registers"
    func context(changing row: Int) throws -> Tensor {
      let contexts = try connect(.cat([text, padding(1)], 1), mask: [1, 1, 1, 0]) { all in
        let rows = try (0..<4).map { try Tensor.full([8], $0 == row ? 2 : 0) }
        all[key] = try all[key].map { try $0 + Tensor.stack(rows) }
      }
      return try #require(contexts.byModality.video)
    }
    let before = try context(changing: -1)
    for row in 0..<3 { #expect(try Tensor.isEqual(context(changing: row), before)) }
    #expect(try difference(context(changing: 3), before) > 0.01)
  }

  @Test func registersRepeat() throws {
    // Two rows of registers are equivalent to one row of twice as many that repeats them.
    let key = "video_embeddings_connector.learnable_registers"
    let features = try Tensor.cat([text, padding(5)], 1)
    let mask = [1, 1, 1, 0, 0, 0, 0, 0]
    let short = try connect(features, mask: mask)
    let long = try connect(features, mask: mask) { $0[key] = try $0[key]?.repeated([2, 1]) }
    #expect(try Tensor.isEqual(#require(short.byModality.video), #require(long.byModality.video)))
  }

  @Test func aSkippedModalityIsNotRead() throws {
    let features = try Tensor.cat([text, padding(1)], 1)
    let contexts = try connect(features, mask: [1, 1, 1, 0], modalities: .video) { all in
      all = all.filter { !$0.key.hasPrefix("audio") }
    }
    #expect(contexts.byModality.audio == nil)
    let both = try connect(features, mask: [1, 1, 1, 0])
    #expect(
      try Tensor.isEqual(#require(contexts.byModality.video), #require(both.byModality.video)))
  }

  @Test func mismatchedFeaturesAreNamed() throws {
    #expect(
      message { _ = try connect(text, mask: [1, 1, 1]) }.contains("multiple of 4 tokens (got 3)"))
    let narrow = try Tensor.zeros([1, 4, 6])
    #expect(message { _ = try connect(narrow, mask: [1, 1, 1, 1]) }.contains("a width of 8"))
    #expect(message { _ = try connect(text, mask: [1, 1, 1, 1]) }.contains("[1, 3, 8]"))
    let key = "video_embeddings_connector.learnable_registers"
    let misshapen = message {
      _ = try connect(text, mask: [1, 1, 1]) { $0[key] = try Tensor.zeros([4, 7]) }
    }
    #expect(misshapen.contains("\(key) has shape [4, 7]"), "\(misshapen)")
    #expect(
      message { _ = try connect(text, mask: [1, 1, 1]) { $0[key] = nil } }.contains(
        "\(key) is missing"))
  }
}

/// A folder for one file of weights, removed with the value; the weights keep their memory maps.
private final class WeightsFolder {
  private let path = FileManager.default.temporaryDirectory.path + "/text-\(UUID().uuidString)"

  init() throws {
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit {
    do {
      try FileManager.default.removeItem(atPath: path)
    } catch {
      print("a test's folder remains: \(error)")
    }
  }

  func weights(_ tensors: [(String, Tensor)]) throws -> Weights {
    let file = "\(path)/weights.safetensors"
    try writeSafetensors(tensors.map { (key: $0, tensor: $1) }, to: file)
    return Weights(try SafetensorsFile(path: file))
  }
}

/// The largest difference of two tensors.
private func difference(_ a: Tensor, _ b: Tensor) throws -> Double {
  try (a - b).abs().max().item()
}
