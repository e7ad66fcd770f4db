import BlockExecution
import LanguageModels
import NN
import Support
import Torch

/// A user's choices about the memory of models that run without a backward pass.
public struct MemorySettings: Sendable, Equatable {
  /// The location of the weights of a model's blocks; nil chooses the fastest that fits.
  public var weightPlacement: WeightPlacement?
  /// The device's memory that may be used; nil is `automatic` on a GPU, and no limit on a CPU.
  public var memory: MemoryBudget?

  public init(weightPlacement: WeightPlacement? = nil, memory: MemoryBudget? = nil) {
    (self.weightPlacement, self.memory) = (weightPlacement, memory)
  }

  /// The locations of the weights of a model's blocks.
  ///
  /// - Parameters:
  ///   - work: What the model does, for messages: `sampling`.
  ///   - costs: Called only if there is something to decide.
  /// - Throws: `Issue` if no plan fits; `TorchError` if the device can't be asked.
  public func placements(
    on device: Device, for work: String, _ costs: () throws -> StackCosts
  ) throws -> WeightPlacements {
    if let weightPlacement { return .all(weightPlacement) }
    guard device != .cpu || memory != nil else { return .resident }
    let limit = try (memory ?? .automatic).tensorBytes(on: device)
    let machine = MachineResources(deviceBytes: limit, hostBytes: HostMemory.usableBytes / 2)
    let costs = try costs()
    guard let (plan, fits) = MemoryPlanner.plan(costs, on: machine) else { return .resident }
    guard fits else {
      throw Issue(
        ["memory"],
        "does not suffice: \(work) needs about \(plan.peakBytes.gigabytes) of the device's memory "
          + "at least (got \(limit.gigabytes))",
        suggestion: "Use a device with more memory, or smaller inputs.")
    }
    return WeightPlacements(plan.placement, count: plan.streamedBlocks, of: costs.blocks)
  }

  /// The locations of the weights of a text encoder's layers.
  ///
  /// The other parameters are those of `openTextEncoder`.
  ///
  /// - Throws: The errors of `placements`; `Issue` or `TensorFileError` for files that can't be
  ///   read.
  public func textEncoderPlacements(
    at path: String?, dtype: DType, device: Device, storage: WeightStorage
  ) throws -> WeightPlacements {
    guard let path else { return .resident }
    return try placements(on: device, for: "the text encoder") {
      try textEncoderCosts(at: path, dtype: dtype, storage: storage)
    }
  }
}
