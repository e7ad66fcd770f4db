// T tokens, D width.

import BlockExecution
import LTX
import NN
import Torch

/// The memory that a run's tensors will take on the device, before the first step.
///
/// Weights, gradients and the optimizer's state are exact. Activations are estimated from the sizes
/// of the tensors that a block keeps; scratch memory of single operations is not included.
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
    // Everything else on the device was loaded for the run.
    let weights = max(loadedBytes - trained, 0)
    var parts = [
      (name: "frozen weights", bytes: weights), (name: "trained weights", bytes: trained),
      (name: "gradients", bytes: trained), (name: "optimizer", bytes: optimizer),
      (name: "activations, about", bytes: activationBytes),
    ]
    if average != nil { parts.append((name: "averaged weights", bytes: trained)) }
    return MemoryPlan(parts: parts)
  }

  /// The activations of the largest batch. Per token and unit of its width, a block keeps about 34
  /// values for a modality with text cross-attention and a feed-forward layer of four times the
  /// width (inputs and results of norms and products), and half as many for cross-modal attention.
  /// With gradient checkpointing, all blocks keep their inputs, and one keeps all of its
  /// activations.
  private var activationBytes: Int {
    let configuration = model.transformer.configuration
    let strategies = flowMatching.strategies
    var largest = 0
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
      let values =
        configuration.blocks == 0
        ? 0
        : step.plan.steps.contains { $0.activations == .keep }
          ? perBlock * blocks : perBlock + input * blocks
      largest = max(largest, values)
    }
    return largest * configurationBytes * self.configuration.optimization.batchSize
  }

  private var configurationBytes: Int { model.autocast == nil ? 4 : 2 }
}
