import Foundation
import Support
import TensorFiles
import Torch

/// A small random Gemma 4 (`gemma4_unified`) in any size: local and global layers of different head
/// sizes, the parts for images and audio that nothing reads, and all files of the published folder;
/// or all of it in one file in ComfyUI's layout. The default sizes are those of the tiny model.
public struct TinyGemma4: Sendable {
  public var width = 48
  public var layers = 6
  /// Every n-th layer is global, as is the last.
  public var pattern = 3
  public var heads = 4
  public var keyValueHeads = 2
  public var headWidth = 16
  /// The heads of keys in global layers, which are the values too.
  public var globalKeyValueHeads = 1
  public var globalHeadWidth = 32
  public var feedForwardWidth = 160
  public var window = 40
  /// The number of embeddings; nil for those that the tokenizer needs.
  public var vocabulary: Int?
  let visionWidth = 24
  let visionPatch = 4
  let visionPool = 2
  let visionPositions = 10
  let audioWidth = 40

  /// The version that a checkpoint names as its text encoder's.
  public static let version = "gemma4-tiny-v1"

  /// The metadata of a checkpoint that belongs to this text encoder.
  public static var checkpointMetadata: [String: String] {
    [TextEncoderPairing.key: "{\"gemma_version\": \(JSON.quoted(version))}"]
  }

  public init() {}

  /// Writes the folder's files.
  ///
  /// - Parameter folder: A folder that exists.
  public func write(to folder: URL, seed: UInt64) throws {
    try write(to: folder, Generator(seed: seed))
  }

  func write(to folder: URL, _ generator: Generator) throws {
    let tokenizer = TinyTokenizer(.gemma4)
    for (name, content) in try files(tokenizer) {
      try Data((content + "\n").utf8).write(to: folder.appendingPathComponent(name))
    }
    let drawn = RandomWeights.Drawn(generator)
    try draw(RandomWeights(into: drawn), tokenizer: tokenizer)
    try TinyGemma.writeShards(drawn.tensors, to: folder)
  }

  /// Writes one file with the weights, the small files and the projections of a checkpoint.
  ///
  /// - Parameter projections: Tensors below `text_embedding_projection`, by their whole keys.
  func writePacked(
    to path: String, projections: [(key: String, tensor: Tensor)], _ generator: Generator
  ) throws {
    let tokenizer = TinyTokenizer(.gemma4)
    let drawn = RandomWeights.Drawn(generator)
    try draw(RandomWeights(into: drawn), tokenizer: tokenizer)
    var tensors = drawn.tensors.map { (key: Self.packedKey($0.key), tensor: $0.tensor) }
    tensors += projections
    var metadata = ["format": "pt"]
    for (name, content) in try files(tokenizer) {
      switch name {
      case "config.json": metadata["gemma_config"] = content
      case "tokenizer.json":
        tensors.append(("tokenizer_json", try Tensor(Array((content + "\n").utf8))))
      default:
        tensors.append(("hf_asset__\(name)", try Tensor(Array((content + "\n").utf8))))
      }
    }
    try writeSafetensors(tensors, metadata: metadata, to: path)
  }

  /// The name in ComfyUI's layout of a tensor in the layout of `transformers`.
  private static func packedKey(_ key: String) -> String {
    for (prefix, packed) in [
      ("model.language_model.", "model."), ("model.vision_embedder.", "vision_model."),
      ("model.embed_vision.", "multi_modal_projector."),
      ("model.embed_audio.", "audio_projector."),
    ] where key.hasPrefix(prefix) {
      return packed + key.dropFirst(prefix.count)
    }
    return key
  }

  private func isGlobal(_ layer: Int) -> Bool {
    (layer + 1).isMultiple(of: pattern) || layer == layers - 1
  }

  /// Draws all tensors: the language model and the embedders of images and audio.
  func draw(_ w: RandomWeights, tokenizer: TinyTokenizer) throws {
    let root = w / "model"
    try languageModel(root / "language_model", tokenizer)
    let vision = root / "vision_embedder"
    let patch = visionPatch * visionPool
    let pixels = 3 * patch * patch
    try (vision / "patch_dense").linear(pixels, visionWidth)
    try (vision / "patch_ln1").layerNorm(pixels)
    try (vision / "patch_ln2").layerNorm(visionWidth)
    try (vision / "pos_norm").layerNorm(visionWidth)
    try vision.normal("pos_embedding", [visionPositions, 2, visionWidth], deviation: 0.3)
    for (name, inputs) in [("embed_vision", visionWidth), ("embed_audio", audioWidth)] {
      try (root / name / "embedding_projection").linear(inputs, width, bias: false)
    }
  }

  private func languageModel(_ w: RandomWeights, _ tokenizer: TinyTokenizer) throws {
    // The model multiplies them by the square root of the width.
    try (w / "embed_tokens").normal(
      "weight", [vocabulary ?? tokenizer.embeddingCount, width],
      deviation: 1 / Double(width).squareRoot())
    for index in 0..<layers {
      let layer = w / "layers" / index
      let attention = layer / "self_attn"
      let isGlobal = isGlobal(index)
      let head = isGlobal ? globalHeadWidth : headWidth
      let keys = (isGlobal ? globalKeyValueHeads : keyValueHeads) * head
      try (attention / "q_proj").linear(width, heads * head, bias: false)
      try (attention / "k_proj").linear(width, keys, bias: false)
      if !isGlobal { try (attention / "v_proj").linear(width, keys, bias: false) }
      try (attention / "o_proj").linear(heads * head, width, bias: false)
      // Scores are not scaled, so that smaller norms keep them of order 1.
      for name in ["q_norm", "k_norm"] {
        try (attention / name).normal(
          "weight", [head], mean: 1 / Double(head).squareRoot().squareRoot(), deviation: 0.05)
      }
      try (layer / "mlp" / "gate_proj").linear(width, feedForwardWidth, bias: false)
      try (layer / "mlp" / "up_proj").linear(width, feedForwardWidth, bias: false)
      try (layer / "mlp" / "down_proj").linear(feedForwardWidth, width, bias: false)
      for name in ["input", "post_attention", "pre_feedforward", "post_feedforward"] {
        try (layer / "\(name)_layernorm").norm(width)
      }
      try layer.normal("layer_scalar", [1], mean: 1, deviation: 0.1)
    }
    try (w / "norm").norm(width)
  }

  /// The folder's small files by name, including the tokenizer's.
  func files(_ tokenizer: TinyTokenizer) throws -> [(name: String, content: String)] {
    [
      ("config.json", config(tokenizer)),
      (
        "generation_config.json",
        """
        {
          "bos_token_id": 2,
          "do_sample": true,
          "eos_token_id": [1, \(tokenizer.turnEnd)],
          "pad_token_id": 0,
          "top_k": 64,
          "top_p": 0.95
        }
        """
      ),
      ("processor_config.json", processorConfig),
    ] + (try tokenizer.files())
  }

  private func config(_ tokenizer: TinyTokenizer) -> String {
    let kinds = (0..<layers).map { isGlobal($0) ? "\"full_attention\"" : "\"sliding_attention\"" }
    return """
      {
        "architectures": ["Gemma4UnifiedForConditionalGeneration"],
        "model_type": "gemma4_unified",
        "gemma_version": \(JSON.quoted(Self.version)),
        "dtype": "bfloat16",
        "tie_word_embeddings": true,
        "text_config": {
          "hidden_size": \(width),
          "intermediate_size": \(feedForwardWidth),
          "model_type": "gemma4_unified_text",
          "num_hidden_layers": \(layers),
          "num_attention_heads": \(heads),
          "num_key_value_heads": \(keyValueHeads),
          "head_dim": \(headWidth),
          "global_head_dim": \(globalHeadWidth),
          "attention_k_eq_v": true,
          "num_global_key_value_heads": \(globalKeyValueHeads),
          "hidden_activation": "gelu_pytorch_tanh",
          "max_position_embeddings": 262144,
          "rms_norm_eps": 1e-06,
          "attention_bias": false,
          "attention_dropout": 0.0,
          "tie_word_embeddings": true,
          "use_bidirectional_attention": "vision",
          "use_double_wide_mlp": false,
          "num_kv_shared_layers": 0,
          "sliding_window": \(window),
          "final_logit_softcapping": 30.0,
          "bos_token_id": 2,
          "eos_token_id": 1,
          "pad_token_id": 0,
          "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            "full_attention": {
              "rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1000000.0
            }
          },
          "layer_types": [\(kinds.joined(separator: ", "))],
          "vocab_size": \(vocabulary ?? tokenizer.embeddingCount)
        },
        "vision_config": {
          "model_type": "gemma4_unified_vision",
          "patch_size": \(visionPatch),
          "pooling_kernel_size": \(visionPool),
          "mm_embed_dim": \(visionWidth),
          "mm_posemb_size": \(visionPositions),
          "output_proj_dims": \(visionWidth),
          "rms_norm_eps": 1e-06
        },
        "audio_config": {
          "model_type": "gemma4_unified_audio",
          "audio_embed_dim": \(audioWidth),
          "rms_norm_eps": 1e-06
        },
        "boi_token_id": \(tokenizer.media(0)),
        "eoi_token_id": \(tokenizer.media(1)),
        "image_token_id": \(tokenizer.media(2)),
        "boa_token_id": \(tokenizer.media(3)),
        "eoa_token_index": \(tokenizer.media(4)),
        "audio_token_id": \(tokenizer.media(5)),
        "video_token_id": \(tokenizer.media(6))
      }
      """
  }

  private var processorConfig: String {
    """
    {
      "audio_ms_per_token": 40,
      "audio_seq_length": 750,
      "feature_extractor": {
        "audio_samples_per_token": \(audioWidth),
        "feature_extractor_type": "Gemma4UnifiedAudioFeatureExtractor",
        "feature_size": \(audioWidth),
        "padding_side": "right",
        "padding_value": 0.0,
        "sampling_rate": 16000
      },
      "image_processor": {
        "do_convert_rgb": true,
        "do_normalize": false,
        "do_rescale": true,
        "do_resize": true,
        "image_processor_type": "Gemma4UnifiedImageProcessor",
        "max_soft_tokens": 280,
        "patch_size": \(visionPatch),
        "pooling_kernel_size": \(visionPool)
      },
      "image_seq_length": 280,
      "processor_class": "Gemma4UnifiedProcessor",
      "video_processor": {
        "max_soft_tokens": 70,
        "patch_size": \(visionPatch),
        "pooling_kernel_size": \(visionPool),
        "video_processor_type": "Gemma4UnifiedVideoProcessor"
      }
    }
    """
  }
}
