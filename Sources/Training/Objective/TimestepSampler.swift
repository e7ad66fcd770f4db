import Torch

/// How the noise level of a training sample is drawn (ltx-trainer, `timestep_samplers.py`).
public enum TimestepSampler: Sendable, Equatable {
  /// Uniform from `minimum` to `maximum`.
  case uniform(minimum: Double = 0, maximum: Double = 1)
  /// A logit-normal whose mean grows with the number of tokens, stretched to reach 0 and 1.
  ///
  /// - `deviation`: of the normal distribution.
  /// - `eps`: sigmas below it are reflected there.
  /// - `uniformProbability`: how often a sigma is drawn uniformly instead.
  case shiftedLogitNormal(
    deviation: Double = 1, eps: Double = 1e-3, uniformProbability: Double = 0.1)

  /// - Parameters:
  ///   - normal, uniform, probability: draws of shape [n]; `uniform` alone counts for `.uniform`.
  ///   - tokens: of one sample, which shift the distribution.
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
      // The 99.9th and the 0.5th percentile of the normal distribution. They are rounded as the
      // numbers are: with many tokens both lie close together near 1.
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
