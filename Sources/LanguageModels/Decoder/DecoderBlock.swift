// N prompts, T new tokens, L tokens so far, D width.

import BlockExecution
import NN
import Torch

/// One layer of a decoder: attention and a feed-forward network, each normalized before.
struct DecoderBlock: Block {
  private enum FeedForward: Sendable {
    case dense(GatedFeedForward)
    case experts(ExpertFeedForward)
  }

  private let attention: DecoderAttention
  private let feedForward: FeedForward
  private let normBeforeAttention: RMSNorm
  private let normBeforeFeedForward: RMSNorm
  private let layer: Int
  let parameters: [Parameter]
  let weights: [WeightSlot]

  /// - Parameter experts: The experts that are in memory, of all layers.
  init(
    _ w: Weights, layer: Int, configuration c: DecoderConfiguration, experts: ExpertCache
  ) throws {
    attention = try DecoderAttention(w / "self_attn", layer: layer, configuration: c)
    feedForward =
      switch c.layers[layer] {
      case .dense(let width):
        .dense(try GatedFeedForward(w / "mlp", width: c.width, inner: width))
      case .experts(let sizes):
        .experts(
          try ExpertFeedForward(w / "mlp", width: c.width, sizes, layer: layer, cache: experts))
      }
    normBeforeAttention = try RMSNorm(w / "input_layernorm", width: c.width, eps: c.normEps)
    normBeforeFeedForward = try RMSNorm(
      w / "post_attention_layernorm", width: c.width, eps: c.normEps)
    self.layer = layer
    parameters = w.parameters
    weights = w.slots
  }

  func callAsFunction(_ state: DecoderState, _ context: DecoderContext) throws -> DecoderState {
    var x = state.hidden
    x = try x + attention(normBeforeAttention(x), context)
    let normed = try normBeforeFeedForward(x)
    switch feedForward {
    case .dense(let network): x = try x + network(normed)
    case .experts(let network): x = try x + network(normed)
    }
    if layer < context.additions.count { x = try x + context.additions[layer] }
    return DecoderState(hidden: x)
  }
}

/// down(silu(gate x) * up x) (Shazeer, "GLU Variants Improve Transformer", 2020).
struct GatedFeedForward: Sendable {
  private let gate: Linear
  private let up: Linear
  private let down: Linear

  init(_ w: Weights, width: Int, inner: Int) throws {
    gate = try Linear(w / "gate_proj", inputs: width, outputs: inner, bias: false)
    up = try Linear(w / "up_proj", inputs: width, outputs: inner, bias: false)
    down = try Linear(w / "down_proj", inputs: inner, outputs: width, bias: false)
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor {
    let gated = try gate(x)
    try gated.silu_()
    try gated.multiply_(by: up(x))
    return try down(gated)
  }
}

/// The hidden state that goes through the blocks.
struct DecoderState: TensorBundle {
  /// [N, T, D]
  let hidden: Tensor

  var tensors: [Tensor] { [hidden] }

  func replacing(_ tensors: [Tensor]) -> DecoderState { DecoderState(hidden: tensors[0]) }
}

/// The inputs of every block in one pass.
struct DecoderContext: TensorBundle {
  let positions: RotaryPositions
  /// Added to the scores: [N, 1, T, L], or for a single token [N, 1, 1, L]. Nil if there is no
  /// padding: then attention is causal.
  let mask: Tensor?
  let cache: KeyValueCache
  /// Tensors [N, T, D] that are added to the outputs of the first layers.
  let additions: [Tensor]

  // Nothing here is trained.
  var tensors: [Tensor] { [] }

  func replacing(_ tensors: [Tensor]) -> DecoderContext { self }
}
