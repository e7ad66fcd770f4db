import Foundation
import NN

/// The learning rate over the steps of a run.
///
/// The rate is a function of the step's number, so a resumed run needs no schedule state. PyTorch
/// computes the same rates step by step; its values are within 1e-6 of these, relative to the base
/// rate.
///
/// One step of the schedule is one optimizer step, regardless of gradient accumulation, as in the
/// official trainer with one process: accelerate's scheduler does nothing between optimizer steps.
/// (With N processes, accelerate advances the schedule N times per optimizer step, so that it ends
/// after 1/N of the run. This implementation does not.)
public struct LearningRateSchedule: Sendable, Equatable {
  public enum Curve: Sendable, Equatable {
    case constant
    /// From `start` times the base rate to `end` times it: `LinearLR`.
    case linear(start: Double, end: Double)
    /// A half cosine from the base rate to the rate `minimum`: `CosineAnnealingLR`.
    case cosine(minimum: Double)
    /// Half cosines from the base rate to the rate `minimum`; the first takes `first` steps, and
    /// each later one `factor` times the steps of the one before: `CosineAnnealingWarmRestarts`.
    case cosineWithRestarts(first: Int, factor: Int, minimum: Double)
    /// (1 - progress)^power: `PolynomialLR`.
    case polynomial(power: Double)
    /// Multiplied by `factor` every `size` steps: `StepLR`.
    case step(size: Int, factor: Double)
  }

  public let curve: Curve
  /// The steps of the run, including the warm-up.
  public let steps: Int
  /// The number of steps before the curve, which takes the remaining ones. Warm-up step s has the
  /// rate (s + 1) / (warmupSteps + 1) of the curve's first rate, so that the first one is above
  /// zero and the curve continues the series.
  public let warmupSteps: Int

  public init(_ curve: Curve, steps: Int, warmupSteps: Int = 0) {
    self.curve = curve
    self.steps = steps
    self.warmupSteps = warmupSteps
  }

  public static let constant = LearningRateSchedule(.constant, steps: 1)

  /// Returns the learning rate at a step.
  ///
  /// - Parameters:
  ///   - base: The group's learning rate; 0 stays 0. Minimum rates are absolute, not factors, and
  ///     the same for each group.
  ///   - step: The number of the step, from 0.
  public func learningRate(base: Double, at step: Int) -> Double {
    // The minimum rate must not make a group train whose rate is 0.
    guard base != 0 else { return 0 }
    if step < warmupSteps {
      return curveRate(base, 0) * Double(step + 1) / Double(warmupSteps + 1)
    }
    return curveRate(base, step - warmupSteps)
  }

  /// - Parameter step: the number of the step on the curve, from 0.
  private func curveRate(_ base: Double, _ step: Int) -> Double {
    let length = max(steps - warmupSteps, 1)
    let progress = Double(min(step, length)) / Double(length)
    switch curve {
    case .constant: return base
    case .linear(let start, let end): return base * (start + (end - start) * progress)
    case .cosine(let minimum): return Self.cosine(base, minimum, Double(step) / Double(length))
    case .cosineWithRestarts(let first, let factor, let minimum):
      // Cosines of growing length are found in a loop; equal ones by division, because there may be
      // many.
      var position = step
      var period = max(first, 1)
      if factor <= 1 { position %= period }
      while position >= period {
        position -= period
        // A cosine longer than any run never ends.
        let (next, overflow) = period.multipliedReportingOverflow(by: factor)
        period = overflow ? .max : next
      }
      return Self.cosine(base, minimum, Double(position) / Double(period))
    case .polynomial(let power): return base * pow(1 - progress, power)
    case .step(let size, let factor): return base * pow(factor, Double(step / max(size, 1)))
    }
  }

  private static func cosine(_ base: Double, _ minimum: Double, _ progress: Double) -> Double {
    minimum + (base - minimum) * (1 + cos(.pi * progress)) / 2
  }
}
