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
  ///
  /// - Parameters:
  ///   - parts: this rank's parts of gradients that are divided among the ranks, which are scaled
  ///     too.
  ///   - group: the ranks.
  public static func clipped(
    _ gradients: [Tensor], parts: [Tensor] = [], of group: ProcessGroup = .single,
    to maximum: Double
  ) throws -> Tensor {
    let gradients = gradients + parts
    guard !gradients.isEmpty else { return try .scalar(0) }
    return try withoutGrad {
      var norm = try norm(Array(gradients.dropLast(parts.count)))
      if !parts.isEmpty {
        let square = try self.norm(parts).square().reshape([1])
        try group.startAllReduce(square).wait()
        norm = try (norm.to(square.device).square() + square.reshape([])).sqrt()
      }
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
