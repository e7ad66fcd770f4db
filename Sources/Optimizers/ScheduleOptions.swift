import NN
import Support

/// The schedules, by their names in a configuration.
public enum ScheduleKind: String, Sendable, CaseIterable {
  case constant, linear, cosine
  case cosineWithRestarts = "cosine_with_restarts"
  case polynomial, step
}

extension LearningRateSchedule {
  /// A schedule with the options and defaults of the official trainer.
  ///
  /// `linear`: start_factor 1, end_factor 0.1. `cosine`: eta_min 0. `cosine_with_restarts`: T_0 a
  /// quarter of the steps, T_mult 1, eta_min 5e-5. `polynomial`: power 1. `step`: step_size half of
  /// the steps, gamma 0.1. Steps are counted after the warm-up.
  ///
  /// - Parameter params: The options by name; missing ones have their defaults.
  /// - Throws: `Issues` that name each unknown option and each invalid value, with the allowed
  ///   ones.
  public init(
    _ kind: ScheduleKind, steps: Int, warmupSteps: Int = 0, params: [String: JSON] = [:]
  ) throws(Issues) {
    var reader = OptionReader(params, of: "the scheduler \(kind.rawValue)")
    if warmupSteps < 0 || warmupSteps >= steps, warmupSteps != 0 {
      reader.report(
        "warmup_steps", "is \(warmupSteps); it must be from 0 to below the run's \(steps) steps")
    }
    let length = max(steps - warmupSteps, 1)
    let curve: Curve
    switch kind {
    case .constant:
      curve = .constant
    case .linear:
      var start = 1.0
      var end = 0.1
      reader.number("start_factor", &start, "a number above 0 and up to 1") { $0 > 0 && $0 <= 1 }
      reader.number("end_factor", &end, "a number from 0 to 1") { $0 >= 0 && $0 <= 1 }
      curve = .linear(start: start, end: end)
    case .cosine:
      var minimum = 0.0
      reader.nonNegative("eta_min", &minimum)
      curve = .cosine(minimum: minimum)
    case .cosineWithRestarts:
      var first = length / 4
      var factor = 1
      var minimum = 5e-5
      reader.integer("T_0", &first, in: 1 ... .max)
      reader.integer("T_mult", &factor, in: 1 ... .max)
      reader.nonNegative("eta_min", &minimum)
      if first == 0 {
        reader.report(
          "T_0", "is by default a quarter of the steps, which are \(length); set it to 1 or more")
      }
      curve = .cosineWithRestarts(first: first, factor: factor, minimum: minimum)
    case .polynomial:
      var power = 1.0
      reader.nonNegative("power", &power)
      curve = .polynomial(power: power)
    case .step:
      var size = length / 2
      var factor = 0.1
      reader.integer("step_size", &size, in: 1 ... .max)
      reader.nonNegative("gamma", &factor)
      if size == 0 {
        reader.report(
          "step_size", "is by default half of the steps, which are \(length); set it to 1 or more")
      }
      curve = .step(size: size, factor: factor)
    }
    try reader.finish()
    self.init(curve, steps: steps, warmupSteps: warmupSteps)
  }
}
