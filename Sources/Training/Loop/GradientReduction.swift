import NN
import Torch

/// The sum of the gradients of one step over the ranks, which is computed beside the backward pass.
///
/// The gradients of each block travel as one tensor, while those of the block before it are being
/// computed. All ranks train the same model, so their blocks have the same parameters, and the
/// tensors the same sizes.
final class GradientReduction {
  private let group: ProcessGroup
  private var buckets: [Bucket] = []

  private struct Bucket {
    /// The keys of the gradients that this rank has.
    let present: Set<String>
    let parameters: [Parameter]
    /// All gradients, float32; zeros for a missing one.
    let flat: Tensor
    let sum: ProcessGroup.Pending
  }

  init(_ group: ProcessGroup) { self.group = group }

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
        sum: try group.startAllReduce(flat)))
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
    return result
  }
}
