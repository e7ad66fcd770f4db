import NN
import Torch

/// An ordered stack of blocks, run forward and backward under a plan.
public struct BlockStack<B: Block>: Sendable {
  public let blocks: [B]

  public init(_ blocks: [B]) { self.blocks = blocks }

  /// The plain forward pass, for inference.
  public func callAsFunction(_ state: B.State, _ shared: B.Shared) throws -> B.State {
    try blocks.reduce(state) { try $1($0, shared) }
  }

  /// The forward pass of a training step.
  ///
  /// Gradients flow to the tensors of `state` and `shared` that require them, and to the blocks'
  /// parameters.
  ///
  /// - Precondition: The plan has a step for each block.
  public func forward(_ state: B.State, _ shared: B.Shared, plan: ExecutionPlan) throws
    -> StackPass<B>
  {
    precondition(plan.steps.count == blocks.count, "a plan needs one step per block")
    // Each block's graph starts at its own leaves, so that its backward pass can run, or its graph
    // be rebuilt, independently.
    let leaves = shared.replacing(try shared.tensors.map { $0.requiresGrad ? try $0.asLeaf() : $0 })
    var state = state.replacing(
      try state.tensors.map { $0.requiresGrad ? try $0.asLeaf() : try $0.detach() })
    var records: [StackPass<B>.Record] = []
    let device = state.tensors.first?.device ?? .cpu
    func run(_ block: B, _ state: B.State) throws -> B.State {
      try plan.inPrecision(on: device) { try block(state, leaves) }
    }
    for (block, step) in zip(blocks, plan.steps) {
      let isDifferentiated =
        !block.parameters.isEmpty || leaves.tensors.contains(where: \.requiresGrad)
        || state.tensors.contains(where: \.requiresGrad)
      guard isDifferentiated else {  // nothing below this block is trained
        state = try withoutGrad { try run(block, state) }
        records.append(.init(block: block, input: nil, output: nil))
        continue
      }
      switch step.activations {
      case .keep:
        let output = try run(block, state)
        records.append(.init(block: block, input: state, output: output))
        state = output.replacing(try output.tensors.map { $0.requiresGrad ? try $0.asLeaf() : $0 })
      case .recompute:
        let output = try withoutGrad { try run(block, state) }
        records.append(.init(block: block, input: state, output: nil))
        state = output.replacing(try output.tensors.map { try $0.asLeaf() })
      }
    }
    return StackPass(output: state, shared: leaves, plan: plan, device: device, records: records)
  }
}

/// A completed forward pass whose backward pass has not run yet.
public final class StackPass<B: Block> {
  struct Record {
    let block: B
    /// The leaves that the block's graph starts from; nil if nothing in it requires gradients.
    let input: B.State?
    /// The block's graph; nil if it is rebuilt in the backward pass.
    let output: B.State?
  }

  /// The last block's output: leaves, from which the graph of the loss starts.
  public let output: B.State
  private let shared: B.Shared
  private let plan: ExecutionPlan
  private let device: Device
  private var records: [Record]

  init(output: B.State, shared: B.Shared, plan: ExecutionPlan, device: Device, records: [Record]) {
    self.output = output
    self.shared = shared
    self.plan = plan
    self.device = device
    self.records = records
  }

  /// Gradients in the order of the tensors that they belong to; nil for a tensor without one.
  public struct Gradients {
    public var state: [Tensor?]
    public var shared: [Tensor?]
    /// The gradients of the parameters, by key.
    public var parameters: [String: Tensor]
  }

  /// Runs the blocks backward, and releases each block's activations as soon as they have been
  /// used.
  ///
  /// - Parameter gradients: The gradients with respect to `output.tensors`.
  /// - Precondition: Called only once.
  public func backward(_ gradients: [Tensor?]) throws -> Gradients {
    precondition(gradients.count == output.tensors.count, "one gradient per output")
    var result = Gradients(
      state: gradients, shared: Array(repeating: nil, count: shared.tensors.count), parameters: [:])
    while let record = records.popLast() {
      guard let input = record.input else { break }  // no gradients are needed below this block
      let outputs = try (record.output ?? rebuild(record.block, input)).tensors
      // Only outputs with a graph and a gradient matter.
      let active = outputs.indices.filter { outputs[$0].requiresGrad && result.state[$0] != nil }
      let stateInputs = input.tensors.indices.filter { input.tensors[$0].requiresGrad }
      let sharedInputs = shared.tensors.indices.filter { shared.tensors[$0].requiresGrad }
      let parameters = record.block.parameters
      let inputs =
        stateInputs.map { input.tensors[$0] } + sharedInputs.map { shared.tensors[$0] }
        + parameters.map(\.tensor)
      let found =
        active.isEmpty || inputs.isEmpty
        ? Array(repeating: nil, count: inputs.count)
        : try grad(
          of: active.map { outputs[$0] }, wrt: inputs, gradOutputs: active.map { result.state[$0]! }
        )
      result.state = Array(repeating: nil, count: input.tensors.count)
      for (position, index) in stateInputs.enumerated() { result.state[index] = found[position] }
      for (position, index) in sharedInputs.enumerated() {
        guard let gradient = found[stateInputs.count + position] else { continue }
        result.shared[index] = try result.shared[index].map { try $0 + gradient } ?? gradient
      }
      for (parameter, gradient) in zip(parameters, found.suffix(parameters.count)) {
        result.parameters[parameter.key] = gradient
      }
    }
    return result
  }

  private func rebuild(_ block: B, _ input: B.State) throws -> B.State {
    try withGrad { try plan.inPrecision(on: device) { try block(input, shared) } }
  }
}
