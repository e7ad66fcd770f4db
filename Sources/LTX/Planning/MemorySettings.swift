import BlockExecution
import Foundation
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

  /// The placements of blocks where nothing is planned.
  public var unplanned: WeightPlacements { weightPlacement.map { .all($0) } ?? .resident }

  /// The bytes that tensors may take; nil if nothing is planned. Call it before models are loaded.
  ///
  /// - Throws: `TorchError` if the device can't be asked.
  public func limitBytes(on device: Device) throws -> Int? {
    guard device != .cpu || memory != nil else { return nil }
    return try (memory ?? .automatic).tensorBytes(on: device)
  }

  /// The plan of a model's blocks.
  ///
  /// - Parameters:
  ///   - work: What the model does, for messages and tables: `sampling`.
  ///   - unit: What one pass through the blocks is a part of, with its number of passes.
  ///   - path: The file that its weights are read from, or a folder of such files.
  ///   - limitBytes: The result of `limitBytes(on:)`.
  /// - Throws: `Issue` if no plan fits; `TorchError` if the device fails.
  public func plan(
    _ work: String, per unit: (name: String, passes: Double), on device: Device, limitBytes: Int,
    readingFrom path: String, _ costs: StackCosts
  ) throws -> WorkPlan {
    let machine = try MachineResources(device, deviceBytes: limitBytes, readingFrom: path)
    let found = MemoryPlanner.plan(costs, on: machine) { plan in
      switch weightPlacement {
      case nil: true
      case .resident?: plan.streamedBlocks == 0
      case .host?, .file?, .sharded?: plan.streamedBlocks == costs.blocks
      }
    }
    guard let (best, fits) = found else { preconditionFailure("no plan without a condition") }
    var chosen = best
    if chosen.streamedBlocks > 0, let weightPlacement { chosen.placement = weightPlacement }
    guard fits else { throw Self.problem(work, needs: chosen.peakBytes, limitBytes: limitBytes) }
    return WorkPlan(
      work, peakBytes: chosen.peakBytes, time: (chosen.seconds * unit.passes, unit.name),
      treatment: chosen.inferenceWords(of: costs.blocks),
      placements: WeightPlacements(
        chosen.placement, count: chosen.streamedBlocks, of: costs.blocks))
  }

  /// The plan of work without blocks.
  ///
  /// - Throws: `Issue` if it does not fit.
  public func plan(_ work: String, peakBytes: Int, limitBytes: Int, suggestion: String) throws
    -> WorkPlan
  {
    guard peakBytes <= limitBytes else {
      throw Self.problem(work, needs: peakBytes, limitBytes: limitBytes, suggestion)
    }
    return WorkPlan(work, peakBytes: peakBytes)
  }

  private static func problem(
    _ work: String, needs peakBytes: Int, limitBytes: Int,
    _ suggestion: String = "Use a device with more memory, or smaller inputs."
  ) -> Issue {
    Issue(
      ["memory"],
      "does not suffice: \(work) needs about \(peakBytes.gigabytes) of the device's memory at least "
        + "(got \(limitBytes.gigabytes))",
      suggestion: suggestion)
  }
}
