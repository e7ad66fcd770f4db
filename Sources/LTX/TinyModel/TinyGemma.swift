import Foundation
import TensorFiles
import Torch

/// A small random Gemma 3 in any size: local and global layers, the vision parts that nothing
/// reads, and all files of the published folder except `tokenizer.model`. The default sizes are
/// those of the tiny model.
public struct TinyGemma: Sendable {
  public var width = 64
  /// Five local layers, a global one, a local one.
  public var layers = 7
  public var heads = 4
  public var keyValueHeads = 2
  public var headWidth = 16
  public var feedForwardWidth = 256
  public var window = 64
  /// The number of embeddings; nil for those that the tokenizer needs.
  public var vocabulary: Int?
  let visionWidth = 32
  let visionFeedForwardWidth = 64
  let visionLayers = 2
  let imageSize = 56
  let imagePatch = 14
  /// The number of tokens of an image.
  let imageTokens = 4

  public init() {}

  /// Writes the folder's files.
  ///
  /// - Parameter folder: A folder that exists.
  public func write(to folder: URL, seed: UInt64) throws {
    try write(to: folder, Generator(seed: seed))
  }

  func write(to folder: URL, _ generator: Generator) throws {
    let tokenizer = TinyTokenizer()
    try writeSmallFiles(to: folder, tokenizer)
    let drawn = RandomWeights.Drawn(generator)
    try draw(RandomWeights(into: drawn), tokenizer: tokenizer)
    try Self.writeShards(drawn.tensors, to: folder)
  }

  /// Writes two files of about half the bytes each, because the large model consists of several.
  static func writeShards(_ tensors: [(key: String, tensor: Tensor)], to folder: URL) throws {
    let total = tensors.reduce(0) { $0 + $1.tensor.byteCount }
    let names = (1...2).map { "model-0000\($0)-of-00002.safetensors" }
    var shards: [[(key: String, tensor: Tensor)]] = [[], []]
    var places: [String: String] = [:]
    var filled = 0
    for entry in tensors {
      let shard = 2 * filled < total ? 0 : 1
      shards[shard].append(entry)
      places[entry.key] = names[shard]
      filled += entry.tensor.byteCount
    }
    for (name, shard) in zip(names, shards) {
      try writeSafetensors(
        shard, metadata: ["format": "pt"], to: folder.appendingPathComponent(name).path)
    }
    let map = places.sorted { $0.key < $1.key }.map { "    \"\($0.key)\": \"\($0.value)\"" }
    let index = """
      {
        "metadata": {
          "total_size": \(total)
        },
        "weight_map": {
      \(map.joined(separator: ",\n"))
        }
      }

      """
    try Data(index.utf8).write(to: folder.appendingPathComponent("model.safetensors.index.json"))
  }

  /// Writes everything but the tensors.
  package func writeSmallFiles(to folder: URL, _ tokenizer: TinyTokenizer) throws {
    for (name, content) in try files(tokenizer) {
      try Data((content + "\n").utf8).write(to: folder.appendingPathComponent(name))
    }
  }

  /// Draws all tensors: the language model, the vision tower, the projector.
  package func draw(_ w: RandomWeights, tokenizer: TinyTokenizer) throws {
    try languageModel(w / "language_model" / "model", tokenizer)
    try visionTower(w / "vision_tower" / "vision_model")
    let projector = w / "multi_modal_projector"
    try projector.normal(
      "mm_input_projection_weight", [visionWidth, width],
      deviation: 1 / Double(visionWidth).squareRoot())
    try (projector / "mm_soft_emb_norm").gemmaNorm(visionWidth)
  }

  private func languageModel(_ w: RandomWeights, _ tokenizer: TinyTokenizer) throws {
    // The model multiplies them by the square root of the width.
    try (w / "embed_tokens").normal(
      "weight", [vocabulary ?? tokenizer.embeddingCount, width],
      deviation: 1 / Double(width).squareRoot())
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

  private func visionTower(_ w: RandomWeights) throws {
    try (w / "embeddings" / "patch_embedding").convolution(
      3, visionWidth, kernel: [imagePatch, imagePatch])
    let patches = (imageSize / imagePatch) * (imageSize / imagePatch)
    try (w / "embeddings" / "position_embedding").normal(
      "weight", [patches, visionWidth], deviation: 0.3)
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

  /// The folder's small files by name, including the tokenizer's.
  func files(_ tokenizer: TinyTokenizer) throws -> [(name: String, content: String)] {
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

  package func config(_ tokenizer: TinyTokenizer) -> String {
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
        "vocab_size": \(vocabulary ?? tokenizer.embeddingCount),
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

  private func generationConfig(_ tokenizer: TinyTokenizer) -> String {
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

  private var preprocessorConfig: String {
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
