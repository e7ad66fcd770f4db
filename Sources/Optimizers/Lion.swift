import Torch

/// Lion (Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023), equal to
/// lion-pytorch: it uses only the sign of an average of momentum and gradient. Learning rates are a
/// third to a tenth of AdamW's, and weight decays larger by the same factor.
public final class Lion: Optimizer {
  public struct Options: Sendable, Equatable {
    public var beta1 = 0.9
    public var beta2 = 0.99
    public var weightDecay = 0.0
    /// Whether the weight decay is independent of a group's learning rate; it still follows the
    /// schedule.
    public var isDecayDecoupled = false

    public init() {}

    init(_ reader: inout OptionReader) {
      reader.betas("betas", &beta1, &beta2)
      reader.nonNegative("weight_decay", &weightDecay)
      reader.bool("decoupled_weight_decay", &isDecayDecoupled)
    }
  }

  public let groups: [ParameterGroup]
  private let options: Options
  private let moments: [[Tensor]]

  public init(_ groups: [ParameterGroup], options: Options = Options()) throws {
    self.groups = groups
    self.options = options
    moments = try groups.map { try $0.parameters.map { try .zeros(like: $0.tensor) } }
  }

  public func step(_ gradients: [String: Tensor], learningRates: [Double]) throws {
    try withoutGrad {
      for ((group, moments), learningRate) in zip(zip(groups, moments), learningRates) {
        for batch in group.withGradients(gradients) {
          let moments = batch.indices.map { moments[$0] }
          let decay =
            options.isDecayDecoupled && group.learningRate > 0
            ? options.weightDecay / group.learningRate : options.weightDecay
          try Tensor.multiply_(batch.tensors, by: Scalar(1 - learningRate * decay))
          let directions = try Tensor.multiplied(moments, by: Scalar(options.beta1))
          try Tensor.add_(directions, batch.gradients, scale: Scalar(1 - options.beta1))
          try Tensor.add_(batch.tensors, Tensor.signs(directions), scale: Scalar(-learningRate))
          try Tensor.multiply_(moments, by: Scalar(options.beta2))
          try Tensor.add_(moments, batch.gradients, scale: Scalar(1 - options.beta2))
        }
      }
    }
  }

  public var state: [(key: String, tensor: Tensor)] {
    zip(groups, moments).flatMap { group, moments in
      zip(group.parameters, moments).map { ("\($0.key).exp_avg", $1) }
    }
  }

  public func restore(_ load: @escaping (String) throws -> Tensor) throws {
    try StoredState(load).fill(state)
  }
}
