import NN

extension TimestepSampler {
  /// The sampler of `flow_matching`, with its parameters under the reference's names.
  ///
  /// - Throws: `ConfigurationProblems` for a parameter that the sampler does not have, or a value it can't take.
  public init(_ c: TrainingConfiguration) throws {
    let flow = c.flowMatching
    self = try c.naming("flow_matching.timestep_sampling_params") {
      var options = OptionReader(
        flow.timestepSamplingParams, of: "the sampler \(flow.timestepSamplingMode.rawValue)")
      let sampler: TimestepSampler
      switch flow.timestepSamplingMode {
      case .uniform:
        var (minimum, maximum) = (0.0, 1.0)
        options.number("min_value", &minimum, "a number from 0 to 1") { (0...1).contains($0) }
        options.number("max_value", &maximum, "a number from 0 to 1") { (0...1).contains($0) }
        sampler = .uniform(minimum: minimum, maximum: maximum)
      case .shiftedLogitNormal:
        var (deviation, eps, uniform) = (1.0, 1e-3, 0.1)
        options.number("std", &deviation, "a number above 0") { $0 > 0 }
        options.number("eps", &eps, "a number from 0 to below 1") { $0 >= 0 && $0 < 1 }
        options.number("uniform_prob", &uniform, "a number from 0 to 1") { (0...1).contains($0) }
        sampler = .shiftedLogitNormal(deviation: deviation, eps: eps, uniformProbability: uniform)
      }
      try options.finish()
      return sampler
    }
  }
}
