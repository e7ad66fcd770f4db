import Foundation
import NN
import Torch

/// Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024), equal to
/// PyTorch's `torch.optim.Muon`: it makes the momentum of a matrix nearly orthogonal. Other
/// parameters are trained by AdamW at the same learning rate.
public final class Muon: Optimizer {
  /// The factor of the learning rate for a matrix [A, B].
  public enum Adjustment: String, Sendable, CaseIterable {
    /// sqrt(max(1, A / B)).
    case original
    /// 0.2 sqrt(max(A, B)): changes as large as AdamW's, so that its learning rates and weight
    /// decays fit (Liu et al., "Muon is Scalable for LLM Training", 2025).
    case matchRMSAdamW = "match_rms_adamw"
  }

  public struct Options: Sendable, Equatable {
    public var weightDecay = 0.1
    public var momentum = 0.95
    public var isNesterov = true
    /// The coefficients of the Newton-Schulz iteration a x + b x^3 + c x^5.
    public var coefficients = [3.4445, -4.7750, 2.0315]
    public var eps = 1e-7
    public var iterations = 5
    /// The dtype of the iteration. PyTorch's is bfloat16, which is slow on CPUs without instructions
    /// for it.
    public var dtype = DType.bfloat16
    public var adjustment = Adjustment.original
    /// The options for parameters that are not matrices: `adamw_betas`, `adamw_eps`,
    /// `adamw_weight_decay`.
    public var adamW = AdamW.Options()

    public init() {}

    init(_ reader: inout OptionReader) {
      reader.nonNegative("weight_decay", &weightDecay)
      reader.decay("momentum", &momentum)
      reader.bool("nesterov", &isNesterov)
      reader.numbers("ns_coefficients", &coefficients, "finite") { $0.isFinite }
      reader.positive("eps", &eps)
      reader.integer("ns_steps", &iterations, in: 1...99)
      reader.choice("adjust_lr_fn", &adjustment)
      reader.betas("adamw_betas", &adamW.beta1, &adamW.beta2)
      reader.nonNegative("adamw_eps", &adamW.eps)
      reader.nonNegative("adamw_weight_decay", &adamW.weightDecay)
    }
  }

  public let groups: [ParameterGroup]
  private let options: Options
  private let matrices: [ParameterGroup]
  private let momenta: [[Tensor]]
  private let others: AdamW

  public init(_ groups: [ParameterGroup], options: Options = Options()) throws {
    self.groups = groups
    self.options = options
    func part(_ isIncluded: (Parameter) -> Bool) -> [ParameterGroup] {
      groups.map { ParameterGroup($0.parameters.filter(isIncluded), learningRate: $0.learningRate) }
    }
    matrices = part { $0.tensor.rank == 2 }
    momenta = try matrices.map { try $0.parameters.map { try .zeros(like: $0.tensor) } }
    others = try AdamW(part { $0.tensor.rank != 2 }, options: options.adamW)
  }

  public func step(_ gradients: [String: Tensor], learningRates: [Double]) throws {
    try withoutGrad {
      for ((group, momenta), learningRate) in zip(zip(matrices, momenta), learningRates) {
        for (parameter, momentum) in zip(group.parameters, momenta) {
          guard let gradient = gradients[parameter.key] else { continue }
          try momentum.lerp_(to: gradient, Scalar(1 - options.momentum))
          let direction =
            try options.isNesterov
            ? gradient.lerp(to: momentum, Scalar(options.momentum)) : momentum
          let change = try orthogonalized(direction)
          try parameter.tensor.multiply_(by: Scalar(1 - learningRate * options.weightDecay))
          try parameter.tensor.add_(
            change, scale: Scalar(-adjusted(learningRate, parameter.tensor.shape)))
        }
      }
    }
    try others.step(gradients, learningRates: learningRates)
  }

  /// Returns a matrix with the same singular vectors and all singular values near one, by the
  /// Newton-Schulz iteration.
  private func orthogonalized(_ matrix: Tensor) throws -> Tensor {
    let isTall = matrix.size(0) > matrix.size(1)
    let (a, b, c) = (options.coefficients[0], options.coefficients[1], options.coefficients[2])
    var x = try matrix.to(options.dtype)
    if isTall { x = try x.transpose(0, 1) }
    // The spectral norm is at most the Frobenius norm.
    x = try x / x.norm().clamped(min: Scalar(options.eps))
    for _ in 0..<options.iterations {
      let gram = try x.matmul(x.transpose(0, 1))
      let polynomial = try gram.addmm(gram, gram, beta: Scalar(b), alpha: Scalar(c))
      x = try x.addmm(polynomial, x, beta: Scalar(a))
    }
    return isTall ? try x.transpose(0, 1) : x
  }

  private func adjusted(_ learningRate: Double, _ shape: [Int]) -> Double {
    let rows = Double(shape[0])
    let columns = Double(shape[1])
    switch options.adjustment {
    case .original: return learningRate * max(1, rows / columns).squareRoot()
    case .matchRMSAdamW: return learningRate * 0.2 * max(rows, columns).squareRoot()
    }
  }

  public var state: [(key: String, tensor: Tensor)] {
    zip(matrices, momenta).flatMap { group, momenta in
      zip(group.parameters, momenta).map { (key: "\($0.key).momentum_buffer", tensor: $1) }
    } + others.state
  }

  public func restore(_ load: @escaping (String) throws -> Tensor) throws {
    try StoredState(load).fill(state)
  }
}
