import NN
import Torch

/// The global norm of gradients, and their clipping (Pascanu et al., 2013).
public enum GradientClipping {
  /// The norm over all gradients together, a float32 tensor of no dimensions. It is not finite if
  /// any number among them is not, or if the sum of their squares is too large for float32.
  public static func norm(_ gradients: [Tensor]) throws -> Tensor {
    guard !gradients.isEmpty else { return try .scalar(0) }
    return try withoutGrad {
      try Tensor.stack(Tensor.norms(gradients).map { try $0.to(.float32) }).norm()
    }
  }

  /// Scales the gradients in place so that their norm over all of them together is at most
  /// `maximum`.
  ///
  /// A norm that is not finite leaves nothing of the gradients that could be used; the caller skips
  /// the step.
  ///
  /// - Parameter maximum: 0 leaves them as they are.
  /// - Returns: the norm before.
  public static func clip(_ gradients: [Tensor], to maximum: Double) throws -> Double {
    guard !gradients.isEmpty else { return 0 }
    return try withoutGrad {
      let norm = try norm(gradients)
      if maximum > 0 {
        // As PyTorch: the factor is capped at 1, and the norm is never waited for on the way.
        let factor = try Tensor.minimum(
          .scalar(1, device: norm.device), (norm + 1e-6).reciprocal() * maximum)
        try Tensor.multiply_(gradients, by: factor)
      }
      return try norm.item()
    }
  }
}
