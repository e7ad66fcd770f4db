import NN

/// The costs of running a stack of equal blocks, from the shapes of its tensors.
public struct StackCosts: Sendable, Equatable {
  public var blocks: Int
  /// The frozen weights of a block, as they are stored.
  public var weightBytes: Int
  /// The activations that a block's graph keeps between its forward and its backward pass; 0
  /// without a backward pass.
  public var keptBytes: Int
  /// The input of a block; 0 without a backward pass.
  public var inputBytes: Int
  /// The results of a block's self-attention, and what its backward pass needs of them.
  public var attentionBytes = 0
  /// Memory that a block needs while it runs, besides its weights and what is kept of others.
  public var workBytes: Int
  /// Memory that the exchange of a block's gradients between ranks needs in place of its work and of
  /// what it kept.
  public var exchangeBytes = 0
  /// The gradients of the blocks' trained tensors, which are complete at the end of a backward pass.
  public var gradientBytes: Int
  /// Memory that the optimizer's step needs besides its state and these gradients.
  public var updateBytes = 0
  /// Memory that other work needs beside the weights, before or after a step.
  public var samplingBytes = 0
  /// The ranks that share the weights of streamed blocks; 0 if each rank has all of them.
  public var shards = 0
  /// Memory that is used whatever the plan is: other weights, adapters, the optimizer's state.
  public var fixedBytes: Int
  /// The floating-point operations of a block's forward pass.
  public var forwardOperations: Double
  /// Those of its self-attention.
  public var attentionOperations = 0.0
  /// The operations that the host queues for a block's forward pass.
  public var launches = 250
  /// The operations of a backward pass per operation of the forward pass; 0 without a backward
  /// pass.
  public var backwardFactor: Double

  public init(
    blocks: Int, weightBytes: Int, keptBytes: Int = 0, inputBytes: Int = 0, workBytes: Int,
    gradientBytes: Int = 0, fixedBytes: Int, forwardOperations: Double, backwardFactor: Double = 0
  ) {
    self.blocks = blocks
    self.weightBytes = weightBytes
    self.keptBytes = keptBytes
    self.inputBytes = inputBytes
    self.workBytes = workBytes
    self.gradientBytes = gradientBytes
    self.fixedBytes = fixedBytes
    self.forwardOperations = forwardOperations
    self.backwardFactor = backwardFactor
  }
}

/// A plan for a stack, with its predicted costs.
public struct PlannedExecution: Sendable, Equatable {
  /// The blocks whose graph is kept; the others are recomputed.
  public var keptBlocks: Int
  /// The recomputed blocks whose self-attention's results are kept.
  public var attentionBlocks = 0
  /// Whether the inputs of recomputed blocks are in host memory.
  public var offloadsInputs: Bool
  /// The blocks whose weights are streamed.
  public var streamedBlocks: Int
  /// The location of the weights of streamed blocks.
  public var placement: WeightPlacement
  /// The frozen weights of blocks on the device at a time, in bytes.
  public var weightBytes: Int
  /// The predicted maximum of the device's memory, in bytes.
  public var peakBytes: Int
  /// The predicted time of a forward pass and, in training, its backward pass, in seconds.
  public var seconds: Double
}

/// Chooses the fastest plan that fits in memory.
public enum MemoryPlanner {
  /// The blocks on the device at a time while weights are streamed.
  public static let buffers = 2

  /// The fastest plan that fits, or the plan with the smallest peak if none does.
  ///
  /// - Parameter allows: Whether a plan is allowed: explicit settings exclude others.
  public static func plan(
    _ costs: StackCosts, on machine: MachineResources,
    where allows: (PlannedExecution) -> Bool = { _ in true }
  ) -> (plan: PlannedExecution, fits: Bool)? {
    let all = plans(costs, on: machine).filter(allows)
    let fitting = all.filter { $0.peakBytes <= machine.deviceBytes }
    // Of plans that are equally fast, the one that moves least.
    func rank(_ plan: PlannedExecution) -> (Double, Int, Int, Int) {
      (plan.seconds, plan.streamedBlocks, plan.offloadsInputs ? 1 : 0, plan.peakBytes)
    }
    if let best = fitting.min(by: { rank($0) < rank($1) }) { return (best, true) }
    return all.min { $0.peakBytes < $1.peakBytes }.map { ($0, false) }
  }

  /// The seconds of a forward pass with the weights of a plan.
  public static func inferenceSeconds(
    _ plan: PlannedExecution, _ costs: StackCosts, operations: Double, on machine: MachineResources
  ) -> Double {
    let blocks = Double(costs.blocks)
    return max(
      machine.seconds(
        operations: blocks * operations, launches: blocks * Double(costs.launches)),
      Double(plan.streamedBlocks * costs.weightBytes) / machine.rate(of: plan.placement))
  }

  private static func plans(
    _ costs: StackCosts, on machine: MachineResources
  ) -> [PlannedExecution] {
    let trains = costs.backwardFactor > 0
    var result: [PlannedExecution] = []
    for streamed in 0...costs.blocks {
      let holdsInHost = streamed * costs.weightBytes <= machine.hostBytes
      let placement: WeightPlacement =
        streamed == 0 ? .resident : costs.shards > 0 ? .sharded : holdsInHost ? .host : .file
      // The graph of a streamed block can't be kept.
      for kept in trains ? Array(0...(costs.blocks - streamed)) : [0] {
        @discardableResult
        func add(offloads: Bool, attention: Int) -> PlannedExecution {
          let plan = plan(
            costs, machine, streamed: streamed, placement: placement, kept: kept,
            offloads: offloads, attention: attention)
          result.append(plan)
          return plan
        }
        let least = add(offloads: false, attention: 0)
        let recomputed = costs.blocks - kept
        guard trains, recomputed > 0 else { continue }
        add(offloads: true, attention: 0)
        guard costs.attentionBytes > 0 else { continue }
        add(offloads: false, attention: recomputed)
        let free = (machine.deviceBytes - least.peakBytes) / costs.attentionBytes
        if (1..<recomputed).contains(free) { add(offloads: false, attention: free) }
      }
    }
    return result
  }

  /// Predicts the costs of a plan.
  package static func plan(
    _ costs: StackCosts, _ machine: MachineResources, streamed: Int, placement: WeightPlacement,
    kept: Int, offloads: Bool, attention: Int
  ) -> PlannedExecution {
    let recomputed = costs.blocks - kept
    let weights =
      (costs.blocks - streamed + min(streamed, buffers)) * costs.weightBytes
      + (costs.shards > 0 ? streamed * costs.weightBytes / costs.shards : 0)
    // While one input leaves or returns, the next one is in use.
    let inputs =
      (offloads ? min(recomputed, 2) : recomputed) * costs.inputBytes
      + attention * costs.attentionBytes
    // The backward pass frees activations block by block, and fills the gradients. The blocks that
    // are kept are the last ones, so they are gone when the first block is rebuilt.
    func block(kept: Int) -> Int {
      max(costs.workBytes + kept * costs.keptBytes, costs.exchangeBytes)
    }
    let start = block(kept: max(kept, 1)) + inputs
    let end = block(kept: 1) + costs.gradientBytes
    let peak =
      costs.fixedBytes + weights
      + max(start, end, costs.gradientBytes + costs.updateBytes, costs.samplingBytes)

    let trains = costs.backwardFactor > 0
    let (blocks, rebuilt) = (Double(costs.blocks), trains ? Double(recomputed) : 0)
    let passes = blocks * (1 + costs.backwardFactor) + rebuilt
    let compute = machine.seconds(
      operations: passes * costs.forwardOperations
        - (trains ? Double(attention) * costs.attentionOperations : 0),
      launches: passes * Double(costs.launches))
    let copies =
      (trains ? 2 : 1) * Double(streamed * costs.weightBytes) / machine.rate(of: placement)
    let inputCopies =
      offloads ? 2 * Double(recomputed * costs.inputBytes) / machine.rates.upload : 0
    return PlannedExecution(
      keptBlocks: kept, attentionBlocks: attention, offloadsInputs: offloads,
      streamedBlocks: streamed, placement: placement, weightBytes: weights, peakBytes: peak,
      seconds: max(compute, copies + inputCopies))
  }
}
