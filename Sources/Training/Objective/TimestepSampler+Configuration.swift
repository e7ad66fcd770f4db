import NN
import Optimizers
import Support

extension TimestepSampler {
  /// The sampler of `flow_matching`, with its parameters under the reference's names.
  ///
  /// - Throws: `Issues` for a parameter that the sampler does not have, or a value it can't
  ///   take.
  public init(_ flow: TrainingConfiguration.FlowMatching) throws(Issues) {
    var options = OptionReader(
      flow.timestepSamplingParams, of: "the sampler \(flow.timestepSamplingMode.rawValue)")
    switch flow.timestepSamplingMode {
    case .uniform:
      var (minimum, maximum) = (0.0, 1.0)
      options.number("min_value", &minimum, "a number from 0 to 1") { (0...1).contains($0) }
      options.number("max_value", &maximum, "a number from 0 to 1") { (0...1).contains($0) }
      self = .uniform(minimum: minimum, maximum: maximum)
    case .shiftedLogitNormal:
      var (deviation, eps, uniform) = (1.0, 1e-3, 0.1)
      options.number("std", &deviation, "a number above 0") { $0 > 0 }
      options.number("eps", &eps, "a number from 0 to below 1") { $0 >= 0 && $0 < 1 }
      options.number("uniform_prob", &uniform, "a number from 0 to 1") { (0...1).contains($0) }
      self = .shiftedLogitNormal(deviation: deviation, eps: eps, uniformProbability: uniform)
    }
    try options.finish()
  }

  /// - Throws: `ConfigurationProblems`, as above.
  public init(_ c: TrainingConfiguration) throws {
    self = try c.naming("flow_matching.timestep_sampling_params") {
      try TimestepSampler(c.flowMatching)
    }
  }
}
