import Foundation
import NN

/// The change of learning rates over a run.
///
/// The rate is a closed form of the step's number, so a resumed run needs no state of its schedule.
/// PyTorch computes the same rates step by step; its values lie within 1e-6 of these, relative to
/// the base rate.
///
/// One step of the schedule is one step of the optimizer, with any number of accumulated batches,
/// as in the official trainer with one process: accelerate's scheduler does nothing between
/// optimizer steps. (With N processes, accelerate steps N times for each optimizer step, and the
/// schedule ends after 1/N of the run. This implementation does not.)
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
  /// The steps before the curve, which takes the remaining ones. Step s of them has (s + 1) /
  /// (warmupSteps + 1) of the rate that the curve begins with, so that the first one is above zero
  /// and the curve continues the series.
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
  ///   - base: the group's learning rate; 0 stays 0. Minimal rates are rates, not factors, and the
  ///     same for each group.
  ///   - step: the number of the step, from 0.
  public func learningRate(base: Double, at step: Int) -> Double {
    // A group that is not trained is not raised to a minimal rate.
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
      // Cosines of growing length are found one by one, equal ones by division, because there may
      // be many.
      var position = step
      var period = max(first, 1)
      if factor <= 1 { position %= period }
      while position >= period {
        position -= period
        // A cosine that is longer than any run never ends.
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
