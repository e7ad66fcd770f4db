// T tokens, D width.

import BlockExecution
import LTX
import NN
import Torch

/// What a run's tensors will take on the device, before the first step.
///
/// Weights, gradients and the optimizer's state are exact. Activations are estimated from the sizes
/// of what a block keeps; scratch memory of single operations is not in it.
public struct MemoryPlan: Sendable {
  public var parts: [(name: String, bytes: Int)]
  public var total: Int { parts.reduce(0) { $0 + $1.bytes } }
}

extension Trainer {
  public var memoryPlan: MemoryPlan {
    let trained = parameters.reduce(0) { $0 + $1.tensor.byteCount }
    let optimizer = parameters.reduce(0) {
      $0 + optimization.options.stateBytes(shape: $1.tensor.shape, dtype: $1.tensor.dtype)
    }
    // Whatever else lives on the device now was loaded for the run.
    let weights = max(loadedBytes - trained, 0)
    var parts = [
      (name: "frozen weights", bytes: weights), (name: "trained weights", bytes: trained),
      (name: "gradients", bytes: trained), (name: "optimizer", bytes: optimizer),
      (name: "activations, about", bytes: activationBytes),
    ]
    if average != nil { parts.append((name: "averaged weights", bytes: trained)) }
    return MemoryPlan(parts: parts)
  }

  /// Of the largest batch. A block keeps, per token, some 34 numbers for each of its width in a
  /// stream with text cross-attention and a feed-forward of four times the width (inputs of norms
  /// and products, and their results), and half as much for cross-modal attention; recomputing
  /// blocks keep their inputs and one block whole.
  private var activationBytes: Int {
    let configuration = model.transformer.configuration
    let strategies = flowMatching.strategies
    var most = 0
    for entry in dataset.entries {
      var perBlock = 0
      var input = 0
      for (kind, strategy) in strategies.pairs {
        guard let strategy, let shape = entry.shapes[strategy.latentsFolder] else { continue }
        let width = configuration.sizes[kind].width
        let references = strategy.conditions.compactMap(\.referenceFolder).compactMap {
          entry.shapes[$0]
        }
        let tokens = ([shape] + references).reduce(0) { $0 + kind.tokenCount($1) }
        let both = strategies.present() == .both
        perBlock += tokens * width * (both ? 51 : 34)
        input += tokens * width
      }
      let blocks = configuration.blocks
      let numbers =
        configuration.blocks == 0
        ? 0
        : step.plan.steps.contains { $0.activations == .keep }
          ? perBlock * blocks : perBlock + input * blocks
      most = max(most, numbers)
    }
    return most * configurationBytes * self.configuration.optimization.batchSize
  }

  private var configurationBytes: Int { model.autocast == nil ? 4 : 2 }
}
