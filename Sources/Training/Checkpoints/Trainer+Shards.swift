import NN
import Support
import Torch

/// The exchange between files, which hold whole tensors, and ranks that hold parts of them.
extension Trainer {
  /// Whether trained tensors are divided among the ranks, so that all of them take part in saving.
  var sharesTrainedWeights: Bool { !shardedParameters.isEmpty }

  /// Whether this rank takes part in saving.
  var takesPartInSaving: Bool {
    sharesTrainedWeights ? mesh.isOfFirstCopy : group.isMain
  }

  /// The tensors of a file that is about to be written: copies in host memory, which later steps
  /// don't change. If tensors are divided, they are gathered one by one while the file is written.
  func contents(
    _ tensors: [(key: String, tensor: Tensor)], _ exchange: inout PartExchange
  ) throws -> WholeTensors {
    guard sharesTrainedWeights else {
      return WholeTensors(
        try tensors.map { key, tensor in
          let detached = try tensor.detach()
          return (key, detached.device == .cpu ? try detached.clone() : try detached.to(.cpu))
        })
    }
    return exchange.whole(
      tensors.map { (key: $0.key, tensor: $0.tensor, shard: shard(of: $0.key, $0.tensor)) })
  }

  /// The same for values of parameters.
  func contents(_ values: [Parameter], _ exchange: inout PartExchange) throws -> WholeTensors {
    try contents(values.map { (key: $0.key, tensor: $0.tensor) }, &exchange)
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

/// The requests that each rank sends to all ranks during a step.
struct RankSignals: OptionSet, Sendable {
  let rawValue: Int

  /// The run is to stop after the step.
  static let stops = RankSignals(rawValue: 1)
  /// The state is to be stored after the step.
  static let storesState = RankSignals(rawValue: 2)
}
