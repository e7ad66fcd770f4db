import Torch

/// The treatment of a block's activations between the forward and the backward pass.
public enum ActivationPolicy: String, Sendable, CaseIterable {
  /// The block's graph is kept: the fastest, and the most memory.
  case keep
  /// Only the block's input is kept, and its graph is rebuilt in the backward pass (Chen et al.,
  /// "Training Deep Nets with Sublinear Memory Cost", 2016).
  case recompute
  /// Like `recompute`, and the results of self-attention are kept too: its cost grows with the square
  /// of the tokens, the memory of its result with their number.
  case keepAttention = "keep_attention"
  /// Like `recompute`, and the block's input is kept in host memory. On the CPU, this is the same as
  /// `recompute`.
  case offload
}

/// The way in which each block of a stack is run. Plans change memory and time, never results.
public struct ExecutionPlan: Sendable {
  public struct Step: Sendable {
    public var activations: ActivationPolicy

    public init(activations: ActivationPolicy) { self.activations = activations }
  }

  public var steps: [Step]
  /// The dtype of mixed precision: blocks run under autocast to it, also when they are rebuilt. Nil
  /// for full precision.
  public var autocast: DType?

  public init(steps: [Step], autocast: DType? = nil) {
    self.steps = steps
    self.autocast = autocast
  }

  /// The same step for every block.
  public init(blocks: Int, activations: ActivationPolicy, autocast: DType? = nil) {
    self.init(
      steps: Array(repeating: Step(activations: activations), count: blocks), autocast: autocast)
  }

  /// Runs a forward computation in the plan's precision. Gradients are computed outside of it, in
  /// the dtypes that the forward pass used.
  public func inPrecision<R>(on device: Device, _ body: () throws -> R) throws -> R {
    guard let autocast else { return try body() }
    return try withAutocast(autocast, on: device, body)
  }
}
