// N prompts, S tokens, D width.

import BlockExecution
import NN
import Support
import TensorFiles
import Torch

/// The language model of a Gemma 3 or Gemma 4 without its last projection ("Gemma 3 Technical
/// Report", 2025; `transformers`, `models/gemma3/modeling_gemma3.py` and
/// `models/gemma4_unified/modeling_gemma4_unified.py`). Images and audio are not supported.
public struct GemmaModel: TextEncoder {
  public let configuration: GemmaConfiguration
  /// [vocabulary, D], on the CPU: a pass uses few rows of this large table.
  private let embedding: Tensor
  private let device: Device
  private let blocks: BlockStack<GemmaBlock>
  private let norm: GemmaRMSNorm

  /// The prefixes of the language model: of new and old multimodal files of `transformers`, and of
  /// text-only files and ComfyUI's.
  private static let layouts = ["language_model.model", "model.language_model", "model"]

  /// The parts of multimodal files other than the language model, in the layouts of `transformers`
  /// and of ComfyUI.
  static let otherParts = [
    "vision_tower", "vision_model", "multi_modal_projector", "vision_embedder", "embed_vision",
    "embed_audio", "audio_projector",
  ]

  /// Whether a key of a file with a Gemma belongs to nothing that encoding text needs. Older files
  /// contain tables that can be computed from the configuration.
  static func isKnowinglyUnused(_ key: String) -> Bool {
    let parts = key.split(separator: ".").prefix(2)
    return key.hasSuffix("rotary_emb.inv_freq") || parts.contains("lm_head")
      || parts.contains { otherParts.contains(String($0)) }
  }

  /// The prefix of the language model's keys in a file; nil if it has none.
  static func layout(of entries: [String: TensorEntry]) -> String? {
    layouts.first { entries["\($0).embed_tokens.weight"] != nil }
  }

  /// - Parameter root: The root of the checkpoint.
  /// - Throws: `WeightError` if a tensor is missing or doesn't have the shape in the configuration.
  public init(_ root: Weights, configuration c: GemmaConfiguration) throws {
    guard let layout = Self.layouts.first(where: { (root / $0).has("embed_tokens.weight") }) else {
      throw WeightError(
        file: root.file, key: "embed_tokens.weight",
        problem: "is missing below \(Self.layouts.joined(separator: ", ")): this is not a Gemma in "
          + "a layout of transformers or ComfyUI")
    }
    let w = root / layout
    try root.requireScaledFP8MarkerFits()
    configuration = c
    device = root.device
    embedding = try (w / "embed_tokens").placed(.file)
      .tensor("weight", shape: [c.vocabulary, c.width])
    blocks = try BlockStack(w / "layers", count: c.layers.count) { w, index in
      try GemmaBlock(w, kind: c.layers[index], configuration: c)
    }
    norm = try GemmaRMSNorm(w / "norm", width: c.width, configuration: c)
    try w.requireAllUsed(except: Self.isKnowinglyUnused)
  }

  public var width: Int { configuration.width }

  public var hiddenStateCount: Int { configuration.layers.count + 1 }

  /// Computes hidden states in the order of `transformers`: the scaled embeddings, then each
  /// layer's output, the last one after the final normalization. Positions count from the first
  /// token, regardless of padding.
  ///
  /// - Throws: `Issue` if shapes or ids don't fit.
  public func forEachHiddenState(
    ids: Tensor, mask: Tensor, firstPosition: Int, _ visit: (Int, Tensor) throws -> Void
  ) throws {
    try require(ids: ids, mask: mask)
    let context = try GemmaContext(
      mask: mask.to(device), firstPosition: firstPosition, configuration: configuration,
      dtype: embedding.dtype)
    // The scale is rounded to the weights' dtype: 62 for sqrt(3840) in bfloat16.
    let scale = try Tensor.scalar(Double(width).squareRoot(), device: device).to(embedding.dtype)
    let state = GemmaState(
      hidden: try Tensor.embedding(embedding, ids.to(.cpu)).uploaded(to: device) * scale)
    try visit(0, state.hidden)
    _ = try blocks(state, context) { index, state in
      let isLast = index == blocks.blocks.count - 1
      try visit(index + 1, isLast ? norm(state.hidden) : state.hidden)
    }
  }

  private func require(ids: Tensor, mask: Tensor) throws {
    guard ids.rank == 2, ids.count > 0, mask.shape == ids.shape else {
      throw Issue(
        ["ids"],
        "have shape \(ids.shape) and a mask of shape \(mask.shape) (expected [N, S] of both)")
    }
    let lowest = Int(try ids.min().item())
    let highest = Int(try ids.max().item())
    guard lowest >= 0, highest < configuration.vocabulary else {
      throw Issue(
        ["ids"],
        "must be below the model's vocabulary, \(configuration.vocabulary) "
          + "(got \(lowest < 0 ? lowest : highest))",
        suggestion: "Use the tokenizer of this model.")
    }
  }
}
