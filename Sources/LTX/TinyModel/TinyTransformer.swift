import TensorFiles
import Torch

/// A small random transformer with its text connectors: the layers of LTX-2, LTX-2.3 or LTX-2.5 in
/// any size. The default sizes are those of the tiny model.
public struct TinyTransformer: Sendable {
  public var blocks = 4
  /// Upstream requires the same number of heads for both modalities.
  public var heads = 4
  public var headWidth = 32
  public var audioHeadWidth = 16
  /// The width of the text encoder's states.
  public var captionWidth = TinyGemma().width
  public var connectorBlocks = 2
  public var connectorHeads = 4
  public var videoChannels = TinyVideoVAE().latentChannels
  public var audioChannels = TinyAudioVAE().patchChannels
  public var registers = 128
  /// The positions that rotary angles are relative to: seconds, rows and columns of pixels.
  public var maxPositions = (seconds: 20, rows: 2048, columns: 2048)
  /// The ratio of the highest to the lowest rotary frequency.
  public var rotaryTheta = 10000.0
  /// The tokens of a prompt; nil for upstream's 1024.
  public var promptTokens: Int?

  /// LTX-2: text features and connectors have the width of the text encoder, and the transformer
  /// projects them. Later, they have the width of their modality.
  var projectsCaptions: Bool
  /// A gate for each attention head.
  var isGated: Bool
  /// Text cross-attention is modulated.
  var modulatesText: Bool
  /// The modulation of the text depends on sigma.
  var hasPromptAdaLN = true
  /// The blocks' feed-forward layers have biases.
  var feedForwardBias = PerModality(video: true, audio: true)
  /// The connectors' feed-forward layers have biases.
  var connectorBias = true
  /// A learned vector marks tokens that show a single pixel frame.
  var hasKeyframeEmbedding = false
  /// The dtype of the tables that are added to timesteps.
  var tableType: DType

  public init(generation: TinyModel.Generation = .ltx2) {
    switch generation {
    case .ltx2: (projectsCaptions, isGated, modulatesText) = (true, false, false)
    case .ltx23: (projectsCaptions, isGated, modulatesText) = (false, true, true)
    case .ltx25:
      self = .ltx25()
      return
    }
    tableType = generation.tableType
  }

  /// The layers of LTX-2.5.
  ///
  /// - Parameter isSplit: In a split pack, no feed-forward layer has a bias, the modulation of the
  ///   text is independent of sigma, and keyframes are not marked.
  public static func ltx25(isSplit: Bool = false) -> TinyTransformer {
    var sizes = TinyTransformer(generation: .ltx23)
    sizes.feedForwardBias = PerModality(video: false, audio: !isSplit)
    sizes.connectorBias = !isSplit
    sizes.hasPromptAdaLN = !isSplit
    sizes.hasKeyframeEmbedding = !isSplit
    return sizes
  }

  public var width: Int { heads * headWidth }
  public var audioWidth: Int { heads * audioHeadWidth }

  /// Writes a checkpoint that contains only the transformer, in bfloat16.
  public func write(to path: String, seed: UInt64) throws {
    let drawn = RandomWeights.Drawn(try Generator(seed: seed))
    try draw(RandomWeights(into: drawn) / "model" / "diffusion_model")
    try writeSafetensors(
      drawn.tensors, metadata: ["config": "{\"transformer\": \(config)}"], to: path)
  }

  /// Draws all tensors below `model.diffusion_model`, connectors included.
  package func draw(_ w: RandomWeights) throws {
    for (prefix, width, channels) in [
      ("", width, videoChannels), ("audio_", audioWidth, audioChannels),
    ] {
      try (w / "\(prefix)patchify_proj").linear(channels, width)
      try adaLN(w / "\(prefix)adaln_single", width, vectors: modulationRows)
      if projectsCaptions {
        try (w / "\(prefix)caption_projection" / "linear_1").linear(captionWidth, width)
        try (w / "\(prefix)caption_projection" / "linear_2").linear(width, width)
      }
      if modulatesText, hasPromptAdaLN {
        try adaLN(w / "\(prefix)prompt_adaln_single", width, vectors: 2)
      }
      try tables(w).modulation("\(prefix)scale_shift_table", rows: 2, width)
      try (w / "\(prefix)proj_out").linear(width, channels)
    }
    for (modality, direction, width) in [("video", "a2v", width), ("audio", "v2a", audioWidth)] {
      try adaLN(w / "av_ca_\(modality)_scale_shift_adaln_single", width, vectors: 4)
      try adaLN(w / "av_ca_\(direction)_gate_adaln_single", width, vectors: 1)
    }
    if hasKeyframeEmbedding {
      try w.normal(TransformerConfiguration.keyframeEmbeddingKey, [1, width], deviation: 1)
    }
    for index in 0..<blocks { try block(w / "transformer_blocks" / index) }
    try connector(w / "video_embeddings_connector", width: textWidths.video)
    try connector(w / "audio_embeddings_connector", width: textWidths.audio)
  }

  /// The widths of text features and of the connectors.
  private var textWidths: (video: Int, audio: Int) {
    projectsCaptions ? (captionWidth, captionWidth) : (width, audioWidth)
  }

  /// Shift, scale and gate of self-attention and feed-forward, and of attention to the text.
  public var modulationRows: Int { BlockModulation.rowCount(modulatesText: modulatesText) }

  private func tables(_ w: RandomWeights) -> RandomWeights { w.stored(as: tableType) }

  private func block(_ w: RandomWeights) throws {
    for (prefix, width, bias) in [
      ("", width, feedForwardBias.video), ("audio_", audioWidth, feedForwardBias.audio),
    ] {
      // attn1 is the modality's self-attention, attn2 attends to the text, which has been projected
      // to the modality's width.
      for name in ["attn1", "attn2"] {
        try attention(w / "\(prefix)\(name)", queries: width, keys: width, inner: width)
      }
      try feedForward(w / "\(prefix)ff", width, bias: bias)
      try tables(w).modulation("\(prefix)scale_shift_table", rows: modulationRows, width)
      if modulatesText {
        try tables(w).modulation("\(prefix)prompt_scale_shift_table", rows: 2, width)
      }
    }
    try attention(w / "audio_to_video_attn", queries: width, keys: audioWidth, inner: audioWidth)
    try attention(w / "video_to_audio_attn", queries: audioWidth, keys: width, inner: audioWidth)
    try tables(w).modulation("scale_shift_table_a2v_ca_video", rows: 5, width)
    try tables(w).modulation("scale_shift_table_a2v_ca_audio", rows: 5, audioWidth)
  }

  private func connector(_ w: RandomWeights, width: Int) throws {
    for index in 0..<connectorBlocks {
      let block = w / "transformer_1d_blocks" / index
      try attention(block / "attn1", queries: width, keys: width, inner: width)
      try feedForward(block / "ff", width, bias: connectorBias)
    }
    try w.normal("learnable_registers", [registers, width], deviation: 1)
  }

  /// Draws the projection from all states of the text encoder, concatenated, to the text features:
  /// below `text_embedding_projection`.
  package func drawProjections(_ w: RandomWeights, states: Int) throws {
    let inputs = states * captionWidth
    if projectsCaptions {
      try (w / "aggregate_embed").linear(inputs, captionWidth, bias: false)
    } else {
      try (w / "video_aggregate_embed").linear(inputs, textWidths.video)
      try (w / "audio_aggregate_embed").linear(inputs, textWidths.audio)
    }
  }

  private func attention(_ w: RandomWeights, queries: Int, keys: Int, inner: Int) throws {
    try (w / "to_q").linear(queries, inner)
    try (w / "to_k").linear(keys, inner)
    try (w / "to_v").linear(keys, inner)
    try (w / "q_norm").norm(inner)
    try (w / "k_norm").norm(inner)
    try (w / "to_out" / 0).linear(inner, queries)
    if isGated { try (w / "to_gate_logits").linear(queries, heads) }
  }

  private func feedForward(_ w: RandomWeights, _ width: Int, bias: Bool) throws {
    try (w / "net" / 0 / "proj").linear(width, 4 * width, bias: bias)
    try (w / "net" / 2).linear(4 * width, width, bias: bias)
  }

  /// From the timestep's sinusoids, 256 wide, to the vectors that modulate a modality.
  private func adaLN(_ w: RandomWeights, _ width: Int, vectors: Int) throws {
    try (w / "emb" / "timestep_embedder" / "linear_1").linear(256, width)
    try (w / "emb" / "timestep_embedder" / "linear_2").linear(width, width)
    try (w / "linear").linear(width, vectors * width)
  }

  /// The published configuration's keys.
  package var config: String {
    """
    {
      "_class_name": "AVTransformer3DModel",
      "_diffusers_version": "0.25.1",
      "activation_fn": "gelu-approximate",
      "attention_bias": true,
      "attention_type": "default",
      "double_self_attention": false,
      "dropout": 0.0,
      "norm_elementwise_affine": false,
      "norm_eps": 1e-06,
      "norm_num_groups": 32,
      "num_embeds_ada_norm": 1000,
      "num_vector_embeds": null,
      "only_cross_attention": false,
      "cross_attention_norm": true,
      "upcast_attention": false,
      "use_linear_projection": false,
      "qk_norm": "rms_norm",
      "standardization_norm": "rms_norm",
      "positional_embedding_type": "rope",
      "positional_embedding_theta": \(rotaryTheta),
      "positional_embedding_max_pos": [\(maxPositions.seconds), \(maxPositions.rows), \(maxPositions.columns)],
      "timestep_scale_multiplier": 1000,
      "av_ca_timestep_scale_multiplier": 1000.0,
      "causal_temporal_positioning": true,
      "use_audio_video_cross_attention": true,
      "share_ff": false,
      "audio_positional_embedding_max_pos": [\(maxPositions.seconds)],
      "av_cross_ada_norm": true,
      "use_embeddings_connector": true,
      "connector_positional_embedding_max_pos": [4096],
      "connector_num_learnable_registers": \(registers),
      "connector_norm_output": true,
      "use_middle_indices_grid": true,
      "rope_type": "split",
      "frequencies_precision": "float64",
      "num_layers": \(blocks),
      "num_attention_heads": \(heads),
      "attention_head_dim": \(headWidth),
      "cross_attention_dim": \(width),
      "in_channels": \(videoChannels),
      "out_channels": \(videoChannels),
      "caption_channels": \(captionWidth),
      "audio_num_attention_heads": \(heads),
      "audio_attention_head_dim": \(audioHeadWidth),
      "audio_cross_attention_dim": \(audioWidth),
      "audio_in_channels": \(audioChannels),
      "audio_out_channels": \(audioChannels),
      \(connectorConfig),
      "connector_num_layers": \(connectorBlocks)
    }
    """
  }

  private var connectorConfig: String {
    projectsCaptions
      ? """
      "connector_attention_head_dim": \(captionWidth / connectorHeads),
        "connector_num_attention_heads": \(connectorHeads)
      """
      : """
      "connector_attention_head_dim": \(headWidth),
        "connector_num_attention_heads": \(heads),
        "audio_connector_attention_head_dim": \(audioHeadWidth),
        "audio_connector_num_attention_heads": \(heads),
        "apply_gated_attention": \(isGated),
        "connector_apply_gated_attention": \(isGated),
        "caption_projection_first_linear": false,
        "caption_projection_second_linear": false,
        "caption_proj_input_norm": false,
        "connector_learnable_registers_std": 1,
        "caption_proj_before_connector": true,
        "cross_attention_adaln": \(modulatesText),
        "text_encoder_norm_type": "per_token_rms"\(flagConfig)
      """
  }

  /// The keys whose values differ from their defaults.
  private var flagConfig: String {
    let flags = [
      ("ff_bias", feedForwardBias.video, true), ("audio_ff_bias", feedForwardBias.audio, true),
      ("connector_ff_bias", connectorBias, true),
      ("use_prompt_adaln_single", hasPromptAdaLN, true),
      ("use_keyframes_abs_pos_embedding", hasKeyframeEmbedding, false),
    ]
    return flags.filter { $0.1 != $0.2 }.map { ",\n  \"\($0.0)\": \($0.1)" }.joined()
      + (promptTokens.map { ",\n  \"prompt_max_tokens\": \($0)" } ?? "")
  }
}

/// A small random LoRA for the tiny model, in place of the published one that turns a model into
/// its distilled variant; it changes attention and feed-forward layers of every block by a few
/// percent.
enum TinyAdapters {
  static let rank = 4
  /// The size of B A relative to the layer's own weights.
  private static let share = 0.05
  private static let targets = ["to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2"]

  /// - Parameter checkpoint: All tensors of the model that the adapters are for.
  /// - Returns: The LoRA with ComfyUI's keys, in bfloat16.
  static func draw(
    for checkpoint: [(key: String, tensor: Tensor)], _ generator: Generator
  ) throws -> [(key: String, tensor: Tensor)] {
    let drawn = RandomWeights.Drawn(generator)
    let blocks = "\(Checkpoint.Prefix.transformer).transformer_blocks."
    for (key, weight) in checkpoint where key.hasPrefix(blocks) && key.hasSuffix(".weight") {
      let module = String(key.dropLast(".weight".count))
      guard targets.contains(where: { module.hasSuffix(".\($0)") }) else { continue }
      let place = RandomWeights(into: drawn) / String(module.trimmingPrefix("model."))
      let (outputs, inputs) = (weight.size(0), weight.size(1))
      try (place / "lora_A").normal(
        "weight", [rank, inputs], deviation: 1 / Double(inputs).squareRoot())
      try (place / "lora_B").normal(
        "weight", [outputs, rank], deviation: share / Double(rank).squareRoot())
    }
    return drawn.tensors
  }
}
