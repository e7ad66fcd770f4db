import NN
import Support
import Torch

/// An ordered stack of blocks, run forward and backward under a plan.
public struct BlockStack<B: Block>: Sendable {
  public let blocks: [B]
  private let weights: any WeightSource

  /// - Parameter weights: The source of the blocks' weights.
  public init(_ blocks: [B], weights: any WeightSource = ResidentWeights()) {
    (self.blocks, self.weights) = (blocks, weights)
  }

  /// Builds the blocks below a scope of a checkpoint, with their weights where its policy says.
  ///
  /// - Parameters:
  ///   - w: The scope of the stack; its blocks are numbered from 0.
  ///   - build: Builds one block from its scope and its index.
  public init(_ w: Weights, count: Int, _ build: (Weights, Int) throws -> B) throws {
    var placed: [Int: PlacedWeights] = [:]
    var shards: [Int: BlockShard] = [:]
    blocks = try (0..<count).map { index in
      let placement = w.placement(ofBlock: index)
      let scope = (w / index).placed(placement)
      let block = try build(scope, index)
      switch placement {
      case .resident: break
      case .host, .file: placed[index] = scope.placedWeights(placement)
      case .sharded:
        shards[index] = try BlockShard(
          scope.placedWeights(placement), scope.shardedParameters, group: w.ranks,
          device: w.device, gatheredDType: w.gatheredDType)
      }
      return block
    }
    precondition(placed.isEmpty || shards.isEmpty, "a stack streams its weights or shards them")
    if !shards.isEmpty {
      weights = ShardedWeights(shards, group: w.ranks)
    } else if placed.isEmpty {
      weights = ResidentWeights()
    } else if w.device == .cpu {
      weights = PagedWeights(placed)
    } else {
      weights = try StreamedWeights(placed, device: w.device, buffers: MemoryPlanner.buffers)
    }
  }

  /// The plain forward pass, for inference.
  ///
  /// - Parameter visit: Called with the index of each block and the state after it.
  public func callAsFunction(
    _ state: B.State, _ shared: B.Shared, visit: (Int, B.State) throws -> Void = { _, _ in }
  ) throws -> B.State {
    var state = state
    for (index, block) in blocks.enumerated() {
      state = try weights.with(index, in: .inference) { try block(state, shared) }
      try visit(index, state)
    }
    return state
  }

  /// The forward pass of a training step.
  ///
  /// Gradients flow to the tensors of `state` and `shared` that require them, and to the blocks'
  /// parameters.
  ///
  /// - Precondition: The plan has a step for each block.
  /// - Throws: `Issue` for a plan that keeps the graph of a block whose weights are streamed.
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
    let offloads = device != .cpu && plan.steps.contains { $0.activations == .offload }
    let offloaded = offloads ? try OffloadedStates<B.State>(device: device) : nil
    func run(_ index: Int, _ state: B.State) throws -> B.State {
      try weights.with(index, in: .forward) {
        try plan.inPrecision(on: device) { try blocks[index](state, leaves) }
      }
    }
    for (index, (block, step)) in zip(blocks, plan.steps).enumerated() {
      let isDifferentiated =
        !block.parameters.isEmpty || leaves.tensors.contains(where: \.requiresGrad)
        || state.tensors.contains(where: \.requiresGrad)
      guard isDifferentiated else {  // nothing below this block is trained
        state = try withoutGrad { try run(index, state) }
        records.append(.init(block: block, input: .none))
        continue
      }
      switch step.activations {
      case .keep:
        guard weights.allowsGraph(ofBlock: index) else {
          throw Issue(
            ["activations"], "can't be kept in block \(index), whose weights are streamed",
            suggestion: "Recompute them.")
        }
        let output = try run(index, state)
        records.append(.init(block: block, input: .device(state), output: output))
        state = output.replacing(try output.tensors.map { $0.requiresGrad ? try $0.asLeaf() : $0 })
      case .recompute, .keepAttention, .offload:
        let attention = step.activations == .keepAttention ? KeptAttention() : nil
        let output = try withoutGrad {
          try attention?.keep { try run(index, state) } ?? run(index, state)
        }
        let isOffloaded = step.activations == .offload
        let item = isOffloaded ? try offloaded?.put(state) : nil
        records.append(
          .init(
            block: block, input: item.map { .host($0) } ?? .device(state), attention: attention))
        state = output.replacing(try output.tensors.map { try $0.asLeaf() })
      }
    }
    try offloaded?.finishLeaving()
    return StackPass(
      output: state, shared: leaves, plan: plan, device: device, weights: weights,
      offloaded: offloaded, records: records)
  }
}

/// Receives the gradients of some parameters, by key, during a backward pass.
public typealias GradientSink = ([Parameter], [String: Tensor]) throws -> Void

/// A completed forward pass whose backward pass has not run yet.
public final class StackPass<B: Block> {
  /// The leaves that a block's graph starts from.
  enum Input {
    /// Nothing in the block requires gradients.
    case none
    case device(B.State)
    case host(OffloadedStates<B.State>.Item)
  }

  struct Record {
    let block: B
    let input: Input
    /// The block's graph; nil if it is rebuilt in the backward pass.
    var output: B.State?
    /// The results of self-attention that a rebuilt graph uses.
    var attention: KeptAttention?
  }

  /// The last block's output: leaves, from which the graph of the loss starts.
  public let output: B.State
  private let shared: B.Shared
  private let plan: ExecutionPlan
  private let device: Device
  private let weights: any WeightSource
  private let offloaded: OffloadedStates<B.State>?
  private var records: [Record]

  init(
    output: B.State, shared: B.Shared, plan: ExecutionPlan, device: Device,
    weights: any WeightSource, offloaded: OffloadedStates<B.State>?, records: [Record]
  ) {
    self.output = output
    self.shared = shared
    self.plan = plan
    self.device = device
    self.weights = weights
    self.offloaded = offloaded
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
  /// - Parameters:
  ///   - gradients: The gradients with respect to `output.tensors`.
  ///   - take: Called with the parameters of each block and their gradients by key, as soon as they
  ///     are there; they are not in the result then.
  /// - Precondition: Called only once.
  public func backward(_ gradients: [Tensor?], taking take: GradientSink? = nil) throws -> Gradients
  {
    precondition(gradients.count == output.tensors.count, "one gradient per output")
    var result = Gradients(
      state: gradients, shared: Array(repeating: nil, count: shared.tensors.count), parameters: [:])
    while let record = records.popLast() {
      guard let input = try input(of: record) else { break }  // no gradients are needed below
      if case .host(let next) = records.last?.input { try offloaded?.prefetch(next) }
      try weights.with(records.count, in: .backward) {
        try backward(record, index: records.count, input, &result)
      }
      if let take {
        try take(record.block.parameters, result.parameters)
        result.parameters = [:]
      }
    }
    return result
  }

  private func input(of record: Record) throws -> B.State? {
    switch record.input {
    case .none: nil
    case .device(let state): state
    case .host(let item): try offloaded?.take(item)
    }
  }

  /// Runs one block backward: replaces the gradients of its outputs by those of its inputs, and
  /// adds those of the shared tensors and of the parameters.
  private func backward(
    _ record: Record, index: Int, _ input: B.State, _ result: inout Gradients
  ) throws {
    let outputs = try (record.output ?? rebuild(record, input)).tensors
    // Only outputs with a graph and a gradient matter.
    let active = outputs.indices.filter { outputs[$0].requiresGrad && result.state[$0] != nil }
    let stateInputs = input.tensors.indices.filter { input.tensors[$0].requiresGrad }
    let sharedInputs = shared.tensors.indices.filter { shared.tensors[$0].requiresGrad }
    let parameters = record.block.parameters
    let inputs =
      stateInputs.map { input.tensors[$0] } + sharedInputs.map { shared.tensors[$0] }
      + weights.leaves(of: parameters, inBlock: index)
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

  private func rebuild(_ record: Record, _ input: B.State) throws -> B.State {
    func run() throws -> B.State {
      try withGrad { try plan.inPrecision(on: device) { try record.block(input, shared) } }
    }
    return try record.attention?.reuse(run) ?? run()
  }
}
