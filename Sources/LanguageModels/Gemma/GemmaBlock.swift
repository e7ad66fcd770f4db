// N prompts, S tokens, D width.

import BlockExecution
import NN
import Torch

/// One layer of a Gemma: attention and a gated feed-forward network, each normalized before and
/// after.
struct GemmaBlock: Block {
  private let attention: GemmaAttention
  private let gate: Linear
  private let up: Linear
  private let down: Linear
  private let normBeforeAttention: GemmaRMSNorm
  private let normAfterAttention: GemmaRMSNorm
  private let normBeforeFeedForward: GemmaRMSNorm
  private let normAfterFeedForward: GemmaRMSNorm
  /// [1], which multiplies the layer's output; nil for layers without it.
  private let scalar: WeightSlot?
  private let kind: GemmaConfiguration.LayerKind
  let parameters: [Parameter]
  let weights: [WeightSlot]

  init(_ w: Weights, kind: GemmaConfiguration.LayerKind, configuration c: GemmaConfiguration)
    throws
  {
    attention = try GemmaAttention(w / "self_attn", kind: kind, configuration: c)
    let feedForward = w / "mlp"
    gate = try Linear(
      feedForward / "gate_proj", inputs: c.width, outputs: c.feedForwardWidth, bias: false)
    up = try Linear(
      feedForward / "up_proj", inputs: c.width, outputs: c.feedForwardWidth, bias: false)
    down = try Linear(
      feedForward / "down_proj", inputs: c.feedForwardWidth, outputs: c.width, bias: false)
    func norm(_ name: String) throws -> GemmaRMSNorm {
      try GemmaRMSNorm(w / name, width: c.width, configuration: c)
    }
    normBeforeAttention = try norm("input_layernorm")
    normAfterAttention = try norm("post_attention_layernorm")
    normBeforeFeedForward = try norm("pre_feedforward_layernorm")
    normAfterFeedForward = try norm("post_feedforward_layernorm")
    scalar = c.scalesLayers ? try w.slot("layer_scalar", shape: [1]) : nil
    self.kind = kind
    parameters = w.parameters
    weights = w.slots
  }

  func callAsFunction(_ state: GemmaState, _ shared: GemmaContext) throws -> GemmaState {
    let reach = shared.reach(of: kind)
    var x = state.hidden
    let attended = try attention(
      normBeforeAttention(x), mask: reach.mask, positions: reach.positions)
    x = try x + normAfterAttention(attended)
    let normed = try normBeforeFeedForward(x)
    let fed = try down(gate(normed).gelu(approximate: "tanh") * up(normed))
    x = try x + normAfterFeedForward(fed)
    if let scalar { x = try x * scalar.tensor.to(x.dtype) }
    return GemmaState(hidden: x)
  }
}

/// The hidden state that goes through the blocks.
struct GemmaState: TensorBundle {
  /// [N, S, D]
  let hidden: Tensor

  var tensors: [Tensor] { [hidden] }

  func replacing(_ tensors: [Tensor]) -> GemmaState { GemmaState(hidden: tensors[0]) }
}

/// The inputs of every block: the attention mask and the positions for each kind of layer, computed
/// once per pass.
struct GemmaContext: TensorBundle {
  struct Reach: Sendable {
    /// [N, 1, S, S]: 0 where a token attends to another, minus infinity elsewhere.
    let mask: Tensor
    let positions: GemmaPositions
  }

  private let sliding: Reach
  private let global: Reach

  /// - Parameter mask: [N, S], 0 on padding.
  init(mask: Tensor, firstPosition: Int, configuration c: GemmaConfiguration, dtype: DType) throws {
    let tokens = mask.size(1)
    let device = mask.device
    let indices = try Tensor.arange(to: Scalar(tokens), device: device)
    let distance = try indices.unsqueeze(1) - indices.unsqueeze(0)  // row minus column
    // Every token attends to itself, padding too: a row of scores with nothing to attend to would
    // give NaN.
    let isReal = try mask.notEqual(to: 0).unsqueeze(1).unsqueeze(1).logicalOr(distance.equal(to: 0))
    let isBefore = try distance.greaterOrEqual(to: 0).logicalAnd(isReal)
    func reach(_ kind: GemmaConfiguration.LayerKind, _ allowed: Tensor) throws -> Reach {
      let bias = try Tensor.zeros(allowed.shape, dtype: dtype, device: device)
        .maskedFill(allowed.logicalNot(), Scalar(-Double.infinity))
      let attention = c.attention(of: kind)
      let positions = try GemmaPositions(
        attention.rotation, positions: firstPosition..<firstPosition + tokens,
        headWidth: attention.headWidth, dtype: dtype, device: device)
      return Reach(mask: bias, positions: positions)
    }
    global = try reach(.global, isBefore)
    sliding = try reach(
      .sliding, isBefore.logicalAnd(distance.less(than: Scalar(c.slidingWindow))))
  }

  func reach(of kind: GemmaConfiguration.LayerKind) -> Reach {
    kind == .global ? global : sliding
  }

  // None of these depends on trained tensors.
  var tensors: [Tensor] { [] }

  func replacing(_ tensors: [Tensor]) -> GemmaContext { self }
}
