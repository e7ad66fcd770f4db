/// The Gemma 3 of the tiny model: local and global layers, the vision parts that nothing reads, and all files of the
/// published folder except `tokenizer.model`.
enum TinyGemma {
  static let width = 64
  /// Five local layers, a global one, a local one.
  static let layers = 7
  static let heads = 4
  static let keyValueHeads = 2
  static let headWidth = 16
  static let feedForwardWidth = 256
  static let window = 64
  static let visionWidth = 32
  static let visionFeedForwardWidth = 64
  static let visionLayers = 2
  static let imageSize = 56
  static let imagePatch = 14
  /// What an image becomes.
  static let imageTokens = 4

  /// Draws everything: the language model, the vision tower, the projector.
  static func draw(_ w: RandomWeights, tokenizer: TinyTokenizer) throws {
    try languageModel(w / "language_model" / "model", tokenizer)
    try visionTower(w / "vision_tower" / "vision_model")
    let projector = w / "multi_modal_projector"
    try projector.normal(
      "mm_input_projection_weight", [visionWidth, width], deviation: 1 / Double(visionWidth).squareRoot())
    try (projector / "mm_soft_emb_norm").gemmaNorm(visionWidth)
  }

  private static func languageModel(_ w: RandomWeights, _ tokenizer: TinyTokenizer) throws {
    // The model multiplies them by the square root of the width.
    try (w / "embed_tokens").normal(
      "weight", [tokenizer.embeddingCount, width], deviation: 1 / Double(width).squareRoot())
    for index in 0..<layers {
      let layer = w / "layers" / index
      let attention = layer / "self_attn"
      try (attention / "q_proj").linear(width, heads * headWidth, bias: false)
      try (attention / "k_proj").linear(width, keyValueHeads * headWidth, bias: false)
      try (attention / "v_proj").linear(width, keyValueHeads * headWidth, bias: false)
      try (attention / "o_proj").linear(heads * headWidth, width, bias: false)
      try (attention / "q_norm").gemmaNorm(headWidth)
      try (attention / "k_norm").gemmaNorm(headWidth)
      try (layer / "mlp" / "gate_proj").linear(width, feedForwardWidth, bias: false)
      try (layer / "mlp" / "up_proj").linear(width, feedForwardWidth, bias: false)
      try (layer / "mlp" / "down_proj").linear(feedForwardWidth, width, bias: false)
      for name in ["input", "post_attention", "pre_feedforward", "post_feedforward"] {
        try (layer / "\(name)_layernorm").gemmaNorm(width)
      }
    }
    try (w / "norm").gemmaNorm(width)
  }

  private static func visionTower(_ w: RandomWeights) throws {
    try (w / "embeddings" / "patch_embedding").convolution(3, visionWidth, kernel: [imagePatch, imagePatch])
    let patches = (imageSize / imagePatch) * (imageSize / imagePatch)
    try (w / "embeddings" / "position_embedding").normal("weight", [patches, visionWidth], deviation: 0.3)
    for index in 0..<visionLayers {
      let layer = w / "encoder" / "layers" / index
      try (layer / "layer_norm1").layerNorm(visionWidth)
      try (layer / "layer_norm2").layerNorm(visionWidth)
      for name in ["q_proj", "k_proj", "v_proj", "out_proj"] {
        try (layer / "self_attn" / name).linear(visionWidth, visionWidth)
      }
      try (layer / "mlp" / "fc1").linear(visionWidth, visionFeedForwardWidth)
      try (layer / "mlp" / "fc2").linear(visionFeedForwardWidth, visionWidth)
    }
    try (w / "post_layernorm").layerNorm(visionWidth)
  }

  /// The folder's small files by name, the tokenizer's among them.
  static func files(_ tokenizer: TinyTokenizer) throws -> [(name: String, content: String)] {
    [
      ("config.json", config(tokenizer)),
      ("generation_config.json", generationConfig(tokenizer)),
      ("preprocessor_config.json", preprocessorConfig),
      (
        "processor_config.json",
        """
        {
          "image_seq_length": \(imageTokens),
          "processor_class": "Gemma3Processor"
        }
        """
      ),
    ] + (try tokenizer.files())
  }

  private static func config(_ tokenizer: TinyTokenizer) -> String {
    """
    {
      "architectures": ["Gemma3ForConditionalGeneration"],
      "boi_token_index": \(tokenizer.imageStart),
      "eoi_token_index": \(tokenizer.imageEnd),
      "eos_token_id": [1, \(tokenizer.turnEnd)],
      "image_token_index": \(tokenizer.image),
      "initializer_range": 0.02,
      "mm_tokens_per_image": \(imageTokens),
      "model_type": "gemma3",
      "text_config": {
        "hidden_size": \(width),
        "intermediate_size": \(feedForwardWidth),
        "model_type": "gemma3_text",
        "num_attention_heads": \(heads),
        "num_hidden_layers": \(layers),
        "num_key_value_heads": \(keyValueHeads),
        "head_dim": \(headWidth),
        "query_pre_attn_scalar": \(headWidth),
        "vocab_size": \(tokenizer.embeddingCount),
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "sliding_window_pattern": 6,
        "hidden_activation": "gelu_pytorch_tanh",
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": \(window)
      },
      "torch_dtype": "bfloat16",
      "transformers_version": "4.50.0.dev0",
      "vision_config": {
        "hidden_size": \(visionWidth),
        "image_size": \(imageSize),
        "intermediate_size": \(visionFeedForwardWidth),
        "model_type": "siglip_vision_model",
        "num_attention_heads": 2,
        "num_hidden_layers": \(visionLayers),
        "patch_size": \(imagePatch),
        "vision_use_head": false
      }
    }
    """
  }

  private static func generationConfig(_ tokenizer: TinyTokenizer) -> String {
    """
    {
      "bos_token_id": 2,
      "cache_implementation": "hybrid",
      "do_sample": true,
      "eos_token_id": [1, \(tokenizer.turnEnd)],
      "pad_token_id": 0,
      "top_k": 64,
      "top_p": 0.95
    }
    """
  }

  private static var preprocessorConfig: String {
    """
    {
      "do_convert_rgb": null,
      "do_normalize": true,
      "do_pan_and_scan": null,
      "do_rescale": true,
      "do_resize": true,
      "image_mean": [0.5, 0.5, 0.5],
      "image_processor_type": "Gemma3ImageProcessor",
      "image_seq_length": \(imageTokens),
      "image_std": [0.5, 0.5, 0.5],
      "processor_class": "Gemma3Processor",
      "resample": 2,
      "rescale_factor": 0.00392156862745098,
      "size": {"height": \(imageSize), "width": \(imageSize)}
    }
    """
  }
}
