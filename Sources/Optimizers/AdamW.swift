import NN
import Torch

/// Adam with decoupled weight decay (Loshchilov and Hutter, "Decoupled Weight Decay
/// Regularization", 2019), one fused kernel for all parameters of a group. Defaults are PyTorch's.
public final class AdamW: Optimizer {
  public struct Options: Sendable, Equatable {
    public var beta1 = 0.9
    public var beta2 = 0.999
    public var eps = 1e-8
    public var weightDecay = 0.01

    public init() {}

    init(_ reader: inout OptionReader) {
      reader.betas("betas", &beta1, &beta2)
      reader.nonNegative("eps", &eps)
      reader.nonNegative("weight_decay", &weightDecay)
    }
  }

  public let groups: [ParameterGroup]
  private let options: Options
  private let moments: [[Moments]]

  private struct Moments {
    let key: String
    let first: Tensor
    let second: Tensor
    /// The number of steps, as the float32 tensor that the kernel expects.
    let step: Tensor

    init(_ parameter: Parameter) throws {
      key = parameter.key
      first = try .zeros(like: parameter.tensor)
      second = try .zeros(like: parameter.tensor)
      step = try .zeros([], device: parameter.tensor.device)
    }
  }

  public init(_ groups: [ParameterGroup], options: Options = Options()) throws {
    self.groups = groups
    self.options = options
    moments = try groups.map { try $0.parameters.map(Moments.init) }
  }

  public func step(_ gradients: [String: Tensor], learningRates: [Double]) throws {
    try withoutGrad {
      for ((group, moments), learningRate) in zip(zip(groups, moments), learningRates) {
        for batch in group.withGradients(gradients) {
          let moments = batch.indices.map { moments[$0] }
          try Tensor.add_(moments.map(\.step), 1)
          try Tensor.fusedAdamW_(
            parameters: batch.tensors, gradients: batch.gradients,
            firstMoments: moments.map(\.first),
            secondMoments: moments.map(\.second),
            maxSecondMoments: [], steps: moments.map(\.step), lr: learningRate,
            beta1: options.beta1,
            beta2: options.beta2, weightDecay: options.weightDecay, eps: options.eps,
            amsgrad: false, maximize: false)
        }
      }
    }
  }

  public var state: [(key: String, tensor: Tensor)] {
    moments.joined().flatMap {
      [
        ("\($0.key).exp_avg", $0.first), ("\($0.key).exp_avg_sq", $0.second),
        ("\($0.key).step", $0.step),
      ]
    }
  }

  public func restore(_ load: @escaping (String) throws -> Tensor) throws {
    try StoredState(load).fill(state)
  }
}
