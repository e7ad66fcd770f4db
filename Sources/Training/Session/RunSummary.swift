import Foundation
import LTX
import LoRAFiles
import NN
import Support
import Torch
import Tracking

/// A summary of a run before it starts, for the terminal, the report page and the model card.
public struct RunSummary: Sendable {
  public typealias Fact = (name: String, value: String)

  /// Facts about the training and the dataset, in display order.
  public var facts: [Fact]
  /// The memory plans; empty if nothing was planned.
  public var plans: [WorkPlan]
  /// The memory that the run will take on the device.
  public var memory: MemoryPlan
  /// The keys of the weights that will be saved.
  public var keys: [String]

  /// The unit for amounts of memory.
  public var memoryUnit: MemoryUnit { MemoryUnit(fitting: memory.total) }

  public var totalMemory: Fact { ("memory: total", memoryUnit.text(memory.total)) }

  /// The facts, the memory plans, the parts of the memory and its total.
  public var allFacts: [Fact] {
    facts + plans.map { ("memory plan: \($0.work)", $0.words) }
      + memory.parts.map { ("memory: \($0.name)", memoryUnit.text($0.bytes)) } + [totalMemory]
  }
}

extension Trainer {
  /// - Throws: `TorchError`.
  public func summary() throws -> RunSummary {
    let c = configuration
    let count = parameters.reduce(0) { $0 + $1.shape.reduce(1, *) }
    let saved = try savedShapes()
    let savedCount = saved.reduce(0) { $0 + $1.shape.reduce(1, *) }
    let savedBytes = savedCount * (c.checkpoints.precision == .bfloat16 ? 2 : 4)
    let memory = model.plan.memory
    let unit = MemoryUnit(fitting: memory.total)
    var facts: [RunSummary.Fact] = []
    func add(_ name: String, _ value: String) { facts.append((name, value)) }
    add("model", c.model.modelPath)
    add("trains", trained)
    add(
      "parameters",
      "\(count) in \(parameters.count) tensors; each file will take \(unit.text(savedBytes))")
    add("data", data)
    add(
      "steps",
      "\(c.optimization.steps) of \(samplesPerStep), \(String(format: "%.1f", epochs)) epochs")
    if c.optimization.batchSize > 1 { add("batches", batches) }
    add(
      "optimizer",
      "\(c.optimization.optimizerType.rawValue), \(c.optimization.schedulerType.rawValue), "
        + "learning rate \(c.optimization.learningRate)")
    let plans = model.plan.limitBytes == nil ? [] : model.plan.works
    return RunSummary(facts: facts, plans: plans, memory: memory, keys: saved.map(\.key))
  }

  /// The tensors of the weights that the run will write: adapters, or the whole transformer.
  private func savedShapes() throws -> [(key: String, shape: [Int])] {
    try model.adapterScale == nil
      ? model.checkpoint.transformerFileShapes
      : LoRAFile.shapes(of: parameters)
  }

  private var trained: String {
    let c = configuration
    let strategies = flowMatching.strategies
    let modalities = strategies.compactMap { modality, strategy in
      let given = strategy.conditions.map(\.words)
      return (strategy.isGenerated ? "\(modality)" : "\(modality) as a condition")
        + (given.isEmpty ? "" : " with \(given.joined(separator: ", "))")
    }.values()
    let what =
      switch c.model.trainingMode {
      case .lora:
        "\(c.lora?.kind.title ?? LoRAAdapter.title) of rank \(c.lora?.rank ?? 0), alpha \(c.lora?.alpha ?? 0)"
      case .full: "weights"
      }
    return "\(what); \(modalities.joined(separator: " and "))"
  }

  private var data: String {
    let buckets = Set(batchShapes.keys).count
    return
      "\(dataset.count) samples of \(buckets) \(buckets == 1 ? "shape" : "shapes") in \(dataset.root)"
      + (order.samplesPerEpoch == dataset.count
        ? "" : ", \(order.samplesPerEpoch) in an epoch with repeats")
      + (heldOut.map { ", \($0.count) held out" } ?? "")
      + (dataset.unmatchedCount > 0 ? ", \(dataset.unmatchedCount) without a match skipped" : "")
  }

  /// The actual number of samples per step, which is smaller if a shape has too few samples for
  /// full batches.
  private var samplesPerStep: String {
    let asked = configuration.optimization.batchSize * batchesPerStep
    let mean = Double(order.samplesPerEpoch * batchesPerStep) / Double(order.batchesPerEpoch)
    if order.batchesBySize.keys.allSatisfy({ $0 == configuration.optimization.batchSize }) {
      return "\(asked) \(asked == 1 ? "sample" : "samples")"
    }
    return String(format: "%.3g samples on average (%d requested)", mean, asked)
  }

  /// A text such as `3 of 2 samples and 1 of 1 sample in an epoch`, and the cuts that filled the
  /// batches.
  private var batches: String {
    let sizes = order.batchesBySize.sorted { $0.key > $1.key }.map { size, count in
      "\(count) of \(size) \(size == 1 ? "sample" : "samples")"
    }
    let cut = batchShapes.cutSamples
    return sizes.joined(separator: " and ") + " in an epoch"
      + (cut == 0
        ? ""
        : "; the audio of \(cut) \(cut == 1 ? "sample is" : "samples are") cut by up to "
          + "\(batchShapes.longestCut) latent \(batchShapes.longestCut == 1 ? "step" : "steps") to fill them")
  }

  private var epochs: Double {
    Double(configuration.optimization.steps * batchesPerStep) / Double(order.batchesPerEpoch)
  }
}

extension Condition<CachedSource> {
  fileprivate var words: String {
    let what =
      switch kind {
      case .prefix: "its first \(latentFrames ?? 0) latent steps"
      case .suffix: "its last \(latentFrames ?? 0) latent steps"
      case .crop(let region):
        "pixels (\(region.top), \(region.left)) to (\(region.bottom), \(region.right))"
      case .mask: "masks from \(maskFolder ?? "")/"
      case .reference: "references from \(referenceFolder ?? "")/"
      case .firstFrame, .image, .retake, .whole: "its first frame"
      }
    return probability == 1 ? what : "\(what) (\(probability) of the time)"
  }
}
