import NN
import Torch

/// The global norm of gradients, and their clipping (Pascanu et al., 2013).
public enum GradientClipping {
  /// Returns the norm of all gradients together, a float32 scalar tensor. It is not finite if a
  /// gradient is not, or if the sum of squares exceeds float32.
  public static func norm(_ gradients: [Tensor]) throws -> Tensor {
    guard !gradients.isEmpty else { return try .scalar(0) }
    return try withoutGrad {
      try Tensor.stack(Tensor.norms(gradients).map { try $0.to(.float32) }).norm()
    }
  }

  /// Scales the gradients in place so that the norm of all of them together is at most `maximum`.
  ///
  /// A norm that is not finite makes the gradients useless; the caller skips the step.
  ///
  /// - Parameter maximum: the limit; 0 leaves the gradients unchanged.
  /// - Returns: the norm before clipping.
  public static func clip(_ gradients: [Tensor], to maximum: Double) throws -> Double {
    try clipped(gradients, to: maximum).item()
  }

  /// Does the same without waiting for the device: the norm is a float32 scalar tensor.
  public static func clipped(_ gradients: [Tensor], to maximum: Double) throws -> Tensor {
    guard !gradients.isEmpty else { return try .scalar(0) }
    return try withoutGrad {
      let norm = try norm(gradients)
      if maximum > 0 {
        // Like in PyTorch, the factor is capped at 1, so that the device need not be synchronized.
        let factor = try Tensor.minimum(
          .scalar(1, device: norm.device), (norm + 1e-6).reciprocal() * maximum)
        try Tensor.multiply_(gradients, by: factor)
      }
      return norm
    }
  }
}
