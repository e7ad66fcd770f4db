// N prompts, S tokens, D width.

import BlockExecution
import NN
import Torch

/// One layer of Gemma 3: attention and a gated feed-forward network, each normalized before and
/// after.
struct Gemma3Block: Block {
  private let attention: Gemma3Attention
  private let gate: Linear
  private let up: Linear
  private let down: Linear
  private let normBeforeAttention: Gemma3RMSNorm
  private let normAfterAttention: Gemma3RMSNorm
  private let normBeforeFeedForward: Gemma3RMSNorm
  private let normAfterFeedForward: Gemma3RMSNorm
  private let kind: Gemma3Configuration.LayerKind
  let parameters: [Parameter]
  let weights: [WeightSlot]

  init(_ w: Weights, kind: Gemma3Configuration.LayerKind, configuration c: Gemma3Configuration)
    throws
  {
    attention = try Gemma3Attention(w / "self_attn", configuration: c)
    let feedForward = w / "mlp"
    gate = try Linear(
      feedForward / "gate_proj", inputs: c.width, outputs: c.feedForwardWidth, bias: false)
    up = try Linear(
      feedForward / "up_proj", inputs: c.width, outputs: c.feedForwardWidth, bias: false)
    down = try Linear(
      feedForward / "down_proj", inputs: c.feedForwardWidth, outputs: c.width, bias: false)
    func norm(_ name: String) throws -> Gemma3RMSNorm {
      try Gemma3RMSNorm(w / name, width: c.width, eps: c.normEps)
    }
    normBeforeAttention = try norm("input_layernorm")
    normAfterAttention = try norm("post_attention_layernorm")
    normBeforeFeedForward = try norm("pre_feedforward_layernorm")
    normAfterFeedForward = try norm("post_feedforward_layernorm")
    self.kind = kind
    parameters = w.parameters
    weights = w.slots
  }

  func callAsFunction(_ state: Gemma3State, _ shared: Gemma3Context) throws -> Gemma3State {
    let reach = kind == .global ? shared.global : shared.sliding
    var x = state.hidden
    let attended = try attention(
      normBeforeAttention(x), mask: reach.mask, positions: reach.positions)
    x = try x + normAfterAttention(attended)
    let normed = try normBeforeFeedForward(x)
    let fed = try down(gate(normed).gelu(approximate: "tanh") * up(normed))
    return Gemma3State(hidden: try x + normAfterFeedForward(fed))
  }
}

/// The hidden state that goes through the blocks.
struct Gemma3State: TensorBundle {
  /// [N, S, D]
  let hidden: Tensor

  var tensors: [Tensor] { [hidden] }

  func replacing(_ tensors: [Tensor]) -> Gemma3State { Gemma3State(hidden: tensors[0]) }
}

/// The inputs of every block: the attention mask and the positions for each kind of layer, computed
/// once per pass.
struct Gemma3Context: TensorBundle {
  struct Reach: Sendable {
    /// [N, 1, S, S]: 0 where a token attends to another, minus infinity elsewhere.
    let mask: Tensor
    let positions: Gemma3Positions
  }

  let sliding: Reach
  let global: Reach

  /// - Parameter mask: [N, S], 0 on padding.
  init(mask: Tensor, firstPosition: Int, configuration c: Gemma3Configuration, dtype: DType) throws
  {
    let tokens = mask.size(1)
    let device = mask.device
    let indices = try Tensor.arange(to: Scalar(tokens), device: device)
    let distance = try indices.unsqueeze(1) - indices.unsqueeze(0)  // row minus column
    // Every token attends to itself, padding too: a row of scores with nothing to attend to would
    // give NaN.
    let isReal = try mask.notEqual(to: 0).unsqueeze(1).unsqueeze(1).logicalOr(distance.equal(to: 0))
    let isBefore = try distance.greaterOrEqual(to: 0).logicalAnd(isReal)
    func reach(_ allowed: Tensor, _ rotation: Gemma3Configuration.Rotation) throws -> Reach {
      let bias = try Tensor.zeros(allowed.shape, dtype: dtype, device: device)
        .maskedFill(allowed.logicalNot(), Scalar(-Double.infinity))
      let positions = try Gemma3Positions(
        rotation, positions: firstPosition..<firstPosition + tokens, headWidth: c.headWidth,
        dtype: dtype,
        device: device)
      return Reach(mask: bias, positions: positions)
    }
    global = try reach(isBefore, c.globalRotation)
    sliding = try reach(
      isBefore.logicalAnd(distance.less(than: Scalar(c.slidingWindow))), c.slidingRotation)
  }

  // None of these depends on trained tensors.
  var tensors: [Tensor] { [] }

  func replacing(_ tensors: [Tensor]) -> Gemma3Context { self }
}
