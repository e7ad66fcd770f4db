import Foundation
import Torch

/// Adam with decoupled weight decay (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019), one fused
/// kernel for all parameters. Defaults are PyTorch's.
public final class AdamW {
  public let parameters: [Parameter]
  private let beta1: Double
  private let beta2: Double
  private let eps: Double
  private let weightDecay: Double
  private var firstMoments: [Tensor]
  private var secondMoments: [Tensor]
  /// Steps taken, as the kernel takes them: one float32 number per parameter.
  private var steps: [Tensor]

  public init(
    _ parameters: [Parameter], beta1: Double = 0.9, beta2: Double = 0.999, eps: Double = 1e-8,
    weightDecay: Double = 0.01
  ) throws {
    self.parameters = parameters
    self.beta1 = beta1
    self.beta2 = beta2
    self.eps = eps
    self.weightDecay = weightDecay
    firstMoments = try parameters.map { try .zeros(like: $0.tensor) }
    secondMoments = try parameters.map { try .zeros(like: $0.tensor) }
    steps = try parameters.map { try .zeros([], device: $0.tensor.device) }
  }

  /// Updates the parameters.
  ///
  /// - Parameter gradients: by the parameters' keys; a parameter without one is left as it is.
  public func step(_ gradients: [String: Tensor], learningRate: Double) throws {
    let chosen = parameters.indices.filter { gradients[parameters[$0].key] != nil }
    guard !chosen.isEmpty else { return }
    try withoutGrad {
      for index in chosen { try steps[index].add_(.scalar(1)) }
      try Tensor.fusedAdamW_(
        parameters: chosen.map { parameters[$0].tensor },
        gradients: chosen.compactMap { gradients[parameters[$0].key] },
        firstMoments: chosen.map { firstMoments[$0] }, secondMoments: chosen.map { secondMoments[$0] },
        maxSecondMoments: [], steps: chosen.map { steps[$0] }, lr: learningRate, beta1: beta1, beta2: beta2,
        weightDecay: weightDecay, eps: eps, amsgrad: false, maximize: false)
    }
  }

  /// The moments and step counts under keys of their own, to be stored.
  public var state: [(key: String, tensor: Tensor)] {
    parameters.indices.flatMap { index in
      let key = parameters[index].key
      return [
        ("\(key).exp_avg", firstMoments[index]), ("\(key).exp_avg_sq", secondMoments[index]),
        ("\(key).step", steps[index]),
      ]
    }
  }

  /// Continues from a stored state.
  ///
  /// - Parameter load: gives a tensor of the state by its key.
  public func restore(_ load: (String) throws -> Tensor) throws {
    try withoutGrad {
      for (key, tensor) in state { try tensor.copy_(load(key)) }
    }
  }
}

/// How the learning rate changes over a run.
public enum LearningRateSchedule: Sendable, Equatable {
  case constant
  /// From `start` times the learning rate to `end` times it, over `steps`.
  case linear(start: Double, end: Double, steps: Int)

  /// What the learning rate is multiplied by at a step that counts from 0.
  public func factor(at step: Int) -> Double {
    switch self {
    case .constant: 1
    case .linear(let start, let end, let steps):
      start + (end - start) * Double(min(step, steps)) / Double(max(steps, 1))
    }
  }
}

/// The global norm of gradients, and their clipping (Pascanu et al., 2013).
public enum GradientClipping {
  /// Scales the gradients in place so that their norm over all of them together is at most `maximum`.
  ///
  /// - Parameter maximum: 0 leaves them as they are.
  /// - Returns: the norm before.
  public static func clip(_ gradients: [Tensor], to maximum: Double) throws -> Double {
    guard !gradients.isEmpty else { return 0 }
    return try withoutGrad {
      let norm = try Tensor.stack(Tensor.norms(gradients).map { try $0.to(.float32) }).norm()
      if maximum > 0 {
        // As PyTorch: the factor is capped at 1, and the norm is never waited for on the way.
        let factor = try Tensor.minimum(.scalar(1, device: norm.device), (norm + 1e-6).reciprocal() * maximum)
        try Tensor.multiply_(gradients, by: factor)
      }
      return try norm.item()
    }
  }
}
