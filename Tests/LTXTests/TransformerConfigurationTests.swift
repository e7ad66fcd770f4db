import NN
import Support
import Testing

@testable import LTX

/// Settings that upstream's configurator rejects, or that this code doesn't implement, are rejected
/// by name.
@Suite struct TransformerConfigurationTests {
  private func configuration(_ transformer: String) throws -> TransformerConfiguration {
    try TransformerConfiguration(
      Configuration(
        json: "{\"transformer\": {\"caption_channels\": 3840\(transformer)}}",
        file: "model.safetensors"))
  }

  @Test(arguments: [
    "\"dropout\": 0.1", "\"attention_bias\": false", "\"num_vector_embeds\": 16",
    "\"activation_fn\": \"gelu\"",
    "\"num_embeds_ada_norm\": 500", "\"use_linear_projection\": true",
    "\"only_cross_attention\": true",
    "\"cross_attention_norm\": false", "\"double_self_attention\": true",
    "\"upcast_attention\": true",
    "\"standardization_norm\": \"layer_norm\"", "\"norm_elementwise_affine\": true",
    "\"qk_norm\": \"layer_norm\"",
    "\"positional_embedding_type\": \"absolute\"", "\"use_audio_video_cross_attention\": false",
    "\"share_ff\": true", "\"av_cross_ada_norm\": false", "\"use_middle_indices_grid\": false",
    "\"use_keyframes_abs_pos_embedding\": 1", "\"rope_type\": \"none\"",
    "\"positional_embedding_max_pos\": [20]", "\"num_attention_heads\": 0",
  ])
  func unsupportedConfigurationIsNamed(_ entry: String) throws {
    let key = String(entry.split(separator: "\"")[0])
    let error = #expect(throws: Support.Issue.self) { try configuration(", \(entry)") }
    #expect(error?.subject.last == .name("config.transformer.\(key)"))
  }

  @Test func defaultsAreUpstreams() throws {
    let c = try configuration("")
    #expect(
      c.blocks == 48 && c.sizes.video.width == 4096 && c.sizes.audio.width == 2048
        && c.crossWidth == 2048)
    #expect(
      c.sizes.video.inputs == 128 && c.sizes.video.outputs == 128 && c.sizes.audio.inputs == 128
        && c.sizes.audio.outputs == 128)
    #expect(c.sizes.video.maxPositions == [20, 2048, 2048] && c.sizes.audio.maxPositions == [20])
    #expect(c.rope == .split && c.ropeTheta == 10000 && !c.hasDoublePrecisionFrequencies)
    #expect(c.timestepScale == 1000 && c.crossTimestepScale == 1 && c.normEps == 1e-6)
    #expect(
      !c.hasGatedAttention && !c.hasPromptModulation && c.hasPromptAdaLN
        && c.captionChannels == 3840)
    #expect(c.sizes.video.feedForwardBias && c.sizes.audio.feedForwardBias)
  }

  @Test func everyKeyCounts() throws {
    let c = try configuration(
      """
      , "num_layers": 2, "num_attention_heads": 3, "attention_head_dim": 4, "audio_num_attention_heads": 5,
      "audio_attention_head_dim": 6, "in_channels": 7, "out_channels": 8, "audio_in_channels": 9,
      "audio_out_channels": 10, "cross_attention_dim": 12, "audio_cross_attention_dim": 30,
      "positional_embedding_max_pos": [1, 2, 3], "audio_positional_embedding_max_pos": [4], "norm_eps": 1e-5,
      "positional_embedding_theta": 500.0, "timestep_scale_multiplier": 10, "rope_type": "interleaved",
      "av_ca_timestep_scale_multiplier": 20, "frequencies_precision": "float64", "apply_gated_attention": true,
      "cross_attention_adaln": true, "use_prompt_adaln_single": false, "ff_bias": false, "audio_ff_bias": false,
      "caption_proj_before_connector": true
      """)
    #expect(
      c.blocks == 2 && c.sizes.video.width == 12 && c.sizes.audio.width == 30
        && c.sizes.video.heads == 3
        && c.sizes.audio.heads == 5)
    #expect(
      c.sizes.video.inputs == 7 && c.sizes.video.outputs == 8 && c.sizes.audio.inputs == 9
        && c.sizes.audio.outputs == 10)
    #expect(
      c.sizes.video.contextWidth == 12 && c.sizes.audio.contextWidth == 30 && c.crossWidth == 30)
    #expect(
      c.sizes.video.maxPositions == [1, 2, 3] && c.sizes.audio.maxPositions == [4]
        && c.normEps == 1e-5)
    #expect(
      c.ropeTheta == 500 && c.timestepScale == 10 && c.crossTimestepScale == 20
        && c.rope == .interleaved)
    #expect(
      c.hasDoublePrecisionFrequencies && c.hasGatedAttention && c.hasPromptModulation
        && !c.hasPromptAdaLN)
    #expect(
      !c.sizes.video.feedForwardBias && !c.sizes.audio.feedForwardBias && c.captionChannels == nil)
  }
}
