import NN
import Optimizers
import Support
import Torch

/// The exchange between files, which hold whole tensors, and ranks that hold parts of them.
extension Trainer {
  /// Whether trained tensors are divided among the ranks, so that all of them take part in saving.
  var sharesTrainedWeights: Bool { parameters.contains { $0.shard != nil } }

  /// Copies of the values of some parameters on the CPU of the first rank; other ranks have only
  /// their parts there. All ranks must call this.
  func wholeCopies(_ values: [Parameter]) throws -> [Parameter] {
    try values.map { Parameter(key: $0.key, tensor: try wholeCopy($0.tensor, shard: $0.shard)) }
  }

  /// A copy of a tensor that belongs to a parameter, such as a moment, by the tensor's own key.
  func wholeCopy(_ key: String, _ tensor: Tensor) throws -> Tensor {
    try wholeCopy(tensor, shard: shard(of: key, tensor))
  }

  private func wholeCopy(_ tensor: Tensor, shard: Shard?) throws -> Tensor {
    guard let shard else {
      let detached = try tensor.detach()
      return detached.device == .cpu ? try detached.clone() : try detached.to(.cpu)
    }
    return try withoutGrad {
      let parts = try Tensor.empty(
        [shard.count, shard.partCount], dtype: tensor.dtype, device: tensor.device)
      try group.startAllGather(tensor.detach().contiguous(), into: parts).wait()
      guard group.isMain else { return try tensor.detach() }
      return try shard.whole(from: parts.to(.cpu)).clone()
    }
  }

  /// The part of a stored tensor that this rank holds, or the whole tensor if it is not divided.
  ///
  /// - Parameter expected: the tensor that is filled.
  func own(_ stored: Tensor, of key: String, filling expected: Tensor?) throws -> Tensor {
    guard let shard = shard(of: key, expected), stored.shape == shard.shape else { return stored }
    return try shard.part(of: stored)
  }

  /// The shard of the parameter that a tensor belongs to, whose key begins with the parameter's; nil
  /// for a whole tensor and for a counter.
  private func shard(of key: String, _ tensor: Tensor?) -> Shard? {
    let parameter =
      shardedParameters[key]
      ?? key.lastIndex(of: ".").flatMap { shardedParameters[String(key[..<$0])] }
    guard let shard = parameter?.shard, tensor?.shape == [shard.partCount] else { return nil }
    return shard
  }
}
