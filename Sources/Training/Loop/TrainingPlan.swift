import BlockExecution
import LTX
import NN
import Optimizers
import Support
import Torch

/// The treatment of each block's weights and activations in a run. It is chosen from the sizes of
/// the model and of the data before anything is loaded.
///
/// Settings of the configuration win: a plan only decides what they leave open.
public struct TrainingPlan: Sendable {
  /// The locations of the blocks' frozen weights.
  public let placements: WeightPlacements
  let steps: [ExecutionPlan.Step]
  /// The chosen plan, with its predicted memory and time.
  public let planned: PlannedExecution
  /// The parts of its memory.
  let memory: MemoryPlan
  /// The memory that the plan was made for; nil on the CPU without `acceleration.memory`, where
  /// nothing is planned.
  public let limitBytes: Int?
  /// The plans of training and of validation samples, for the user.
  public let works: [WorkPlan]

  /// - Parameters:
  ///   - passes: the sizes of the batches.
  ///   - samples: what validation samples need; nil without samples.
  ///   - ranks: the number of processes that train together.
  ///   - residentBytes: what other models hold on the device for the whole run.
  ///   - limitBytes: the limit of an earlier plan of this run; nil finds it.
  /// - Throws: `ConfigurationProblems` if no allowed plan fits.
  init(
    _ c: TrainingConfiguration, _ configuration: TransformerConfiguration,
    _ sizes: TransformerSizes, _ passes: [PassSize], samples: ValidationNeeds?,
    autocast: DType?, device: Device, ranks: Int = 1, residentBytes: Int = 0, limitBytes: Int? = nil
  ) throws {
    var costs = try Self.costs(c, configuration, sizes, passes, autocast: autocast)
    costs.fixedBytes += residentBytes
    if c.acceleration.weightPlacement == .sharded {
      let trained = c.model.trainingMode == .full ? sizes.trainedBlockElements : 0
      try Self.requireDivisible(
        c, blocks: costs.blocks, blockElements: (sizes.blockBytes.max() ?? 0) + trained,
        ranks: ranks)
      costs.shards = ranks
      try Self.divide(&costs, c, sizes, ranks: ranks, autocast: autocast)
    }
    if let samples {
      // The optimizer's state can wait in host memory.
      let freed =
        c.acceleration.offloadOptimizerDuringValidation ? try Self.optimizerBytes(c, sizes) : 0
      costs.samplingBytes =
        samples.peakBytes(
          configuration, elementBytes: (autocast ?? .float32).size) - freed
    }
    let isPlanned = device != .cpu || c.acceleration.memory != nil
    let limit =
      isPlanned
      ? try limitBytes ?? (c.acceleration.memory ?? .automatic).tensorBytes(on: device) : nil
    self.limitBytes = limit
    let machine =
      isPlanned
      ? try MachineResources(
        device, deviceBytes: limit ?? .max, readingFrom: c.model.modelPath) : .unlimited
    guard
      let (best, fits) = MemoryPlanner.plan(
        costs, on: machine, where: { Self.allows($0, c, blocks: costs.blocks, isPlanned) })
    else {
      throw c.problem(.memory, "leaves no plan for the other settings; remove some")
    }
    guard fits else {
      throw c.problem(
        .memory,
        "does not suffice: the run needs about \(best.peakBytes.gigabytes) of the device's "
          + "memory at least, but has \((limit ?? 0).gigabytes) "
          + "(\(best.words(of: costs.blocks))). Use smaller buckets or batches, a lower rank, "
          + "or quantized weights")
    }
    var planned = best
    if planned.streamedBlocks > 0, !isPlanned || c.gives(.weightPlacement) {
      planned.placement = c.acceleration.weightPlacement
    }
    self.planned = planned
    works = Self.works(planned, costs, c, configuration, samples, machine)
    var parts = [
      ("frozen weights", planned.weightBytes + sizes.otherBytes + residentBytes),
      ("trained weights", sizes.trainedBytes),
      ("optimizer", try Self.optimizerBytes(c, sizes)),
    ]
    if c.optimization.emaDecay != nil { parts.append(("averaged weights", sizes.trainedBytes)) }
    let rest = planned.peakBytes - parts.reduce(0) { $0 + $1.1 }
    memory = MemoryPlan(
      parts: (parts + [("activations and gradients, about", rest)]).map {
        (name: $0.0, bytes: $0.1)
      })
    placements = WeightPlacements(
      planned.placement, count: planned.streamedBlocks, of: costs.blocks)
    let recomputed: ActivationPolicy = planned.offloadsInputs ? .offload : .recompute
    // Blocks that are kept are the last resident ones: their memory is free again when the blocks
    // before them are rebuilt.
    let placements = placements
    let kept = Set(
      (0..<costs.blocks).filter { placements[$0] == .resident }.suffix(planned.keptBlocks))
    let attention = Set(
      (0..<costs.blocks).filter { !kept.contains($0) }.suffix(planned.attentionBlocks))
    steps = (0..<costs.blocks).map {
      ExecutionPlan.Step(
        activations: kept.contains($0)
          ? .keep : attention.contains($0) ? .keepAttention : recomputed)
    }
  }

  /// Whether the configuration's explicit settings allow a plan.
  private static func allows(
    _ plan: PlannedExecution, _ c: TrainingConfiguration, blocks: Int, _ isPlanned: Bool
  ) -> Bool {
    let acceleration = c.acceleration
    if !isPlanned || c.gives(.weightPlacement) {
      let streamed =
        acceleration.weightPlacement == .resident
        ? 0 : min(acceleration.streamedBlocks ?? blocks, blocks)
      guard plan.streamedBlocks == streamed else { return false }
    }
    let isExplicit =
      acceleration.activations != nil || c.gives(.gradientCheckpointing)
    guard !isPlanned || isExplicit else { return true }
    return switch c.activations {
    case .keep: plan.keptBlocks == blocks
    case .recompute:
      plan.keptBlocks == 0 && plan.attentionBlocks == 0 && !plan.offloadsInputs
    case .keepAttention: plan.attentionBlocks == blocks
    case .offload: plan.keptBlocks == 0 && plan.offloadsInputs
    }
  }
}

extension TrainingPlan {
  /// Checks that a model is large enough to be divided among ranks.
  ///
  /// - Parameter blockElements: the bytes of a block's frozen weights, and the number of its trained
  ///   elements.
  /// - Throws: `ConfigurationProblems` for a single block, which would be gathered as a whole, and
  ///   for more ranks than elements.
  static func requireDivisible(
    _ c: TrainingConfiguration, blocks: Int, blockElements: Int, ranks: Int
  ) throws {
    guard blocks >= 2 else {
      throw c.problem(
        .weightPlacement,
        "is sharded, but the model has \(blocks) \(blocks == 1 ? "block" : "blocks"), and ranks "
          + "hold two gathered ones while they run. Set it to resident")
    }
    guard blockElements >= ranks else {
      throw c.problem(
        .weightPlacement,
        "is sharded, but a block has only \(blockElements) bytes, which can't be divided among "
          + "\(ranks) ranks. Set it to resident")
    }
  }

  private static func works(
    _ planned: PlannedExecution, _ costs: StackCosts, _ c: TrainingConfiguration,
    _ configuration: TransformerConfiguration, _ samples: ValidationNeeds?,
    _ machine: MachineResources
  ) -> [WorkPlan] {
    let batches = Double(c.optimization.gradientAccumulationSteps)
    var works = [
      WorkPlan(
        "training", peakBytes: planned.peakBytes, time: (planned.seconds * batches, "step"),
        treatment: planned.words(of: costs.blocks))
    ]
    if let pass = samples?.passes.max(by: {
      configuration.forwardOperations($0) < configuration.forwardOperations($1)
    }) {
      let seconds = MemoryPlanner.inferenceSeconds(
        planned, costs, operations: configuration.forwardOperations(pass), on: machine)
      works.append(
        WorkPlan(
          "validation samples",
          peakBytes: costs.fixedBytes + planned.weightBytes + costs.samplingBytes,
          time: (seconds, "step"), treatment: planned.inferenceWords(of: costs.blocks)))
    }
    return works
  }

  /// Divides the trained tensors of the blocks, their gradients and their state among the ranks.
  static func divide(
    _ costs: inout StackCosts, _ c: TrainingConfiguration, _ sizes: TransformerSizes, ranks: Int,
    autocast: DType?
  ) throws {
    guard c.model.trainingMode == .full, sizes.trainedBytes > 0 else { return }
    let block = sizes.trainedBlockElements * DType.float32.size
    let all = costs.blocks * block
    let copies = 1 + (c.optimization.emaDecay == nil ? 0 : 1)
    // In floating point: the product of two sizes may exceed an integer.
    let part = Double(all) / Double(sizes.trainedBytes)
    let state = Int(Double(try optimizerBytes(c, sizes)) * part)
    costs.fixedBytes -= (copies * all + state) * (ranks - 1) / ranks
    costs.gradientBytes /= ranks
    let gathered = sizes.trainedBlockElements * (autocast ?? .float32).size
    // Mixed precision copies no tensors that were gathered in its dtype.
    if autocast != nil { costs.keptBytes -= gathered }
    // A block, the parts that it was gathered from, and those of the next one; the block's gradients.
    let both = 4 * gathered
    // The gradients of the block before, which are being sent. Then also the block's own in float32,
    // and the same in the order of the parts.
    costs.workBytes += both + block
    costs.exchangeBytes = both + 3 * block
  }

  private static func optimizerBytes(
    _ c: TrainingConfiguration, _ sizes: TransformerSizes
  ) throws -> Int {
    let options = try OptimizerOptions(
      c.optimization.optimizerType, params: c.optimization.optimizerParams)
    return sizes.trained.reduce(0) { $0 + options.stateBytes(shape: $1) }
  }

  /// The costs of a run from the sizes of its model and of its batches.
  static func costs(
    _ c: TrainingConfiguration, _ configuration: TransformerConfiguration,
    _ sizes: TransformerSizes, _ passes: [PassSize], autocast: DType?
  ) throws -> StackCosts {
    let options = try OptimizerOptions(
      c.optimization.optimizerType, params: c.optimization.optimizerParams)
    let optimizer = try optimizerBytes(c, sizes)
    let average = c.optimization.emaDecay == nil ? 0 : sizes.trainedBytes
    // Accumulated gradients stay while the next ones are computed.
    let accumulated = c.optimization.gradientAccumulationSteps > 1 ? sizes.trainedBytes : 0
    let bytes = autocast == nil ? 4 : 2
    let largest = passes.max {
      configuration.keptBytes($0, sizes, elementBytes: bytes)
        < configuration.keptBytes($1, sizes, elementBytes: bytes)
    }
    let pass = largest ?? PassSize(tokens: PerModality())
    // Under mixed precision, the graph keeps copies of trained tensors.
    let copies = autocast == nil ? 0 : sizes.trainedBlockElements * bytes
    // The gradients of tensors outside of the blocks are computed last.
    let blockGradients =
      configuration.blocks * sizes.trainedBlockElements * DType.float32.size
    var costs = StackCosts(
      blocks: configuration.blocks, weightBytes: sizes.blockBytes.max() ?? 0,
      keptBytes: configuration.keptBytes(pass, sizes, elementBytes: bytes) + copies,
      inputBytes: configuration.inputBytes(pass, elementBytes: bytes),
      workBytes: configuration.workBytes(pass, elementBytes: bytes)
        + sizes.largestQuantized * bytes,
      gradientBytes: blockGradients,
      fixedBytes: sizes.otherBytes + sizes.trainedBytes + optimizer + average + accumulated,
      forwardOperations: configuration.forwardOperations(pass), backwardFactor: 1.2)
    costs.attentionBytes = configuration.attentionBytes(pass, elementBytes: bytes)
    costs.attentionOperations = configuration.attentionOperations(pass)
    costs.updateBytes =
      options.updateBytes(shapes: sizes.trained) + sizes.trainedBytes - blockGradients
    return costs
  }
}
