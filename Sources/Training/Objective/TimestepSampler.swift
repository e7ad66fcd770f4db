import NN
import Optimizers
import Support
import Torch

/// The distribution of the noise levels of training samples (ltx-trainer, `timestep_samplers.py`).
public enum TimestepSampler: Sendable, Equatable {
  /// Uniform from `minimum` to `maximum`.
  case uniform(minimum: Double = 0, maximum: Double = 1)
  /// A logit-normal whose mean grows with the number of tokens, stretched to reach 0 and 1.
  ///
  /// - `deviation`: the deviation of the normal distribution.
  /// - `eps`: sigmas below it are reflected there.
  /// - `uniformProbability`: the probability of a uniform sigma instead.
  case shiftedLogitNormal(
    deviation: Double = 1, eps: Double = 1e-3, uniformProbability: Double = 0.1)

  /// - Parameters:
  ///   - normal, uniform, probability: random numbers of shape [n]; `.uniform` uses `uniform` only.
  ///   - tokens: the tokens of one sample, which shift the distribution.
  /// - Returns: sigmas, [n].
  public func sigmas(normal: Tensor, uniform: Tensor, probability: Tensor, tokens: Int) throws
    -> Tensor
  {
    switch self {
    case .uniform(let minimum, let maximum):
      return try uniform * (maximum - minimum) + minimum
    case .shiftedLogitNormal(let deviation, let eps, let uniformProbability):
      let slope = (2.05 - 0.95) / (4096 - 1024)
      let shift = slope * Double(tokens) + 0.95 - slope * 1024
      // The 99.9th and the 0.5th percentile of the normal distribution. They are float32 like the
      // sigmas: with many tokens, both lie close together near 1.
      let bounds = try Tensor([
        Float(shift + 3.0902 * deviation), Float(shift - 2.5758 * deviation),
      ]).to(
        normal.device
      )
      .sigmoid()
      let (high, low) = (try bounds.select(0, 0), try bounds.select(0, 1))
      let stretched = try ((normal * deviation + shift).sigmoid() - low) / (high - low)
      let reflected = try Tensor.select(
        where: stretched.greaterOrEqual(to: Scalar(eps)), stretched, else: 2 * eps - stretched)
      return try Tensor.select(
        where: probability.greater(than: Scalar(uniformProbability)),
        reflected.clamped(min: 0, max: 1),
        else: uniform * (1 - eps) + eps)
    }
  }

  func sample(_ count: Int, tokens: Int, from generator: Generator) throws -> Tensor {
    try sigmas(
      normal: generator.normal([count]), uniform: generator.uniform([count]),
      probability: generator.uniform([count]), tokens: tokens)
  }
}

extension TimestepSampler {
  /// The sampler of `flow_matching`, with its parameters under upstream's names.
  /// - Throws: `Issues` for unknown parameters and for values out of range.
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

  /// - Throws: `ConfigurationProblems` for the same problems.
  public init(_ c: TrainingConfiguration) throws {
    self = try c.naming(.timestepOptions) {
      try TimestepSampler(c.flowMatching)
    }
  }
}
