import Foundation
import Torch

/// The noise levels of sampling: `steps + 1` sigmas from 1 to 0.
public enum NoiseSchedule {
  /// More would be a mistake, and would round to equal levels.
  public static let maximumSteps = 100_000

  /// LTX-2's schedule: evenly spaced, shifted towards noise by the number of tokens, then stretched
  /// so that the last level above 0 is 0.1 (ltx-core, `components/schedulers.py`).
  ///
  /// - Parameter tokens: The number of tokens; upstream's pipelines always use 4096.
  /// - Throws: `TorchError` of kind `.shape` for fewer than one step, or an implausible number of
  ///   them.
  public static func shifted(steps: Int, tokens: Int = 4096) throws -> [Float] {
    guard (1...maximumSteps).contains(steps) else {
      throw TorchError(
        .shape, operation: "sigmas",
        message: "the number of steps must be between 1 and \(maximumSteps) (got \(steps))")
    }
    let (lowTokens, highTokens) = (1024.0, 4096.0)
    let (lowShift, highShift) = (0.95, 2.05)
    let slope = (highShift - lowShift) / (highTokens - lowTokens)
    let shift = exp(Double(tokens) * slope + lowShift - slope * lowTokens)
    // float32 throughout, like upstream.
    let linear: [Float] = try Tensor.linspace(from: 1, to: 0, steps: steps + 1).array()
    let factor = Float(shift)
    // A shift beyond the floating-point range gives pure noise.
    let shifted = linear.map {
      $0 == 0 ? 0 : factor.isFinite ? factor / (factor + (1 / $0 - 1)) : 1
    }
    guard let last = shifted.last(where: { $0 != 0 }) else { return shifted }
    let terminal: Float = 0.1
    let scale = (1 - last) / (1 - terminal)
    // A shift so large that all levels round to 1 can't be stretched.
    guard scale > 0 else { return shifted }
    return shifted.map { $0 == 0 ? 0 : 1 - (1 - $0) / scale }
  }

  /// The fixed levels of the distilled checkpoints.
  public static let distilled: [Float] = [
    1, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0,
  ]

  /// The levels of the second stage, after spatial upsampling.
  public static let distilledSecondStage: [Float] = [0.909375, 0.725, 0.421875, 0]
}
