import NN
import Torch

/// The sum of the gradients of one step over the ranks, which is computed beside the backward pass.
///
/// The gradients of each block travel as one tensor, while those of the block before it are being
/// computed. All ranks train the same model, so their blocks have the same parameters, and the
/// tensors the same sizes.
final class GradientReduction {
  private let mesh: RankMesh
  private var buckets: [Bucket] = []
  private var scattered: [ScatteredBucket] = []
  /// The sums of earlier batches of the step, by the first key of their bucket.
  private var earlier: [String: Tensor] = [:]

  private struct Bucket {
    /// The keys of the gradients that this rank has.
    let present: Set<String>
    let parameters: [Parameter]
    /// All gradients, float32; zeros for a missing one.
    let flat: Tensor
    let sum: ProcessGroup.Pending
  }

  /// The gradients of divided tensors.
  private struct ScatteredBucket {
    let parameters: [Parameter]
    /// The sum of this rank's parts, float32.
    let part: Tensor
    let isLast: Bool
    /// The sum over the ranks that share a copy of the model. Nil after its end, because it keeps
    /// the whole gradients in memory.
    var sum: ProcessGroup.Pending?
    /// The sum over the copies, which follows.
    var total: ProcessGroup.Pending?
  }

  init(_ mesh: RankMesh) { self.mesh = mesh }

  /// Starts the exchange of the gradients of some parameters, by key, of one batch.
  ///
  /// - Parameters:
  ///   - isLast: whether it is the step's last batch on this rank. Only then are gradients of whole
  ///     tensors exchanged; those of parts at every batch, because no rank has memory for all of
  ///     them.
  ///   - computation: keeps and returns the gradients of earlier batches.
  func take(
    _ parameters: [Parameter], _ gradients: [String: Tensor], isLast: Bool,
    _ computation: inout StepComputation
  ) throws {
    try scatter(parameters.filter { $0.shard != nil }, gradients, isLast: isLast)
    let whole = parameters.filter { $0.shard == nil }
    let own = try computation.taking(
      whole, gradients.filter { key, _ in whole.contains { $0.key == key } })
    if isLast { try start(whole, own) } else { computation.keep(own) }
  }

  private func scatter(
    _ parameters: [Parameter], _ gradients: [String: Tensor], isLast: Bool
  ) throws {
    guard !parameters.isEmpty else { return }
    let group = mesh.shards
    // [ranks, elements of a part]
    let all = try withoutGrad {
      try Tensor.cat(
        parameters.map { parameter in
          guard let shard = parameter.shard, let gradient = gradients[parameter.key] else {
            let tensor = parameter.tensor
            return try Tensor.zeros([group.worldSize, tensor.count], device: tensor.device)
          }
          return try shard.parts(of: gradient.to(.float32))
        }, 1
      ).contiguous()
    }
    let part = try Tensor.empty([all.size(1)], device: all.device)
    // At most one exchange holds whole gradients besides the ones that were just computed.
    try settleScattered()
    scattered.append(
      ScatteredBucket(
        parameters: parameters, part: part, isLast: isLast,
        sum: try group.startReduceScatter(all, into: part)))
  }

  /// Waits for the last sum of parts, and adds those of earlier batches. Starts their sum over the
  /// copies of the model after the last batch.
  private func settleScattered() throws {
    guard var bucket = scattered.popLast() else { return }
    if let sum = bucket.sum {
      try sum.wait()
      bucket.sum = nil
      let key = bucket.parameters[0].key
      if let sum = earlier[key] { try withoutGrad { try bucket.part.add_(sum) } }
      guard bucket.isLast else {
        earlier[key] = bucket.part
        return
      }
      bucket.total = try mesh.replicas.startAllReduce(bucket.part)
    }
    scattered.append(bucket)
  }

  /// Starts the exchange of the gradients of some parameters, by key.
  func start(_ parameters: [Parameter], _ gradients: [String: Tensor]) throws {
    guard !parameters.isEmpty else { return }
    let flat = try withoutGrad {
      try Tensor.cat(
        parameters.map { parameter in
          let tensor = parameter.tensor
          return try gradients[parameter.key]?.to(.float32).reshape([-1])
            ?? Tensor.zeros([tensor.count], device: tensor.device)
        })
    }
    buckets.append(
      Bucket(
        present: Set(gradients.keys), parameters: parameters, flat: flat,
        sum: try mesh.all.startAllReduce(flat)))
  }

  /// Waits for all exchanges.
  ///
  /// - Returns: the sums, by key, in the dtypes of the parameters.
  /// - Throws: `TorchError` of kind `.collective`.
  func finish() throws -> [String: Tensor] {
    defer { buckets = [] }
    var result: [String: Tensor] = [:]
    for bucket in buckets {
      try bucket.sum.wait()
      let parts = try bucket.flat.split(sizes: bucket.parameters.map(\.tensor.count))
      for (parameter, part) in zip(bucket.parameters, parts)
      where bucket.present.contains(parameter.key) {
        let tensor = parameter.tensor
        result[parameter.key] = try part.reshape(tensor.shape).to(tensor.dtype)
      }
    }
    try settleScattered()
    defer { scattered = [] }
    for bucket in scattered {
      try bucket.total?.wait()
      let parts = try bucket.part.split(sizes: bucket.parameters.map(\.tensor.count))
      for (parameter, part) in zip(bucket.parameters, parts) {
        result[parameter.key] = try part.to(parameter.tensor.dtype)
      }
    }
    return result
  }
}
