import Foundation
import NN
import Support
import Testing
import Torch

@testable import Training

/// The samplers with options of a configuration, against the official trainer's with the same
/// random numbers.
@Suite struct TimestepSamplerTests {
  private struct Run: Decodable { let cases: [Case] }

  private struct Case: Decodable {
    let mode: String
    let params: [String: Double]
    let tokens: Int
  }

  @Test func options() throws {
    let file = try OracleFixture.training("samplers")
    let cases = try OracleFixture.run(file, as: Run.self).cases
    #expect(cases.count == 6)
    for (index, one) in cases.enumerated() {
      var flow = TrainingConfiguration.FlowMatching()
      flow.timestepSamplingMode = try #require(.init(rawValue: one.mode))
      flow.timestepSamplingParams = one.params.mapValues { JSON($0) }
      func tensor(_ name: String) throws -> Tensor { try file.tensor("\(index).\(name)") }
      let sigmas = try TimestepSampler(flow).sigmas(
        normal: tensor("normal"), uniform: tensor("uniform"), probability: tensor("probability"),
        tokens: one.tokens)
      let difference = try (sigmas - tensor("sigmas")).abs().max().item()
      #expect(difference <= 1e-6, "case \(index): \(difference)")
    }
  }

  /// A sigma is always from 0 to 1; more tokens give more noise.
  @Test func ranges() throws {
    let generator = try Generator(seed: 8)
    var means: [Double] = []
    for tokens in [16, 1024, 4096, 20000] {
      let sigmas = try TimestepSampler.shiftedLogitNormal().sample(
        4000, tokens: tokens, from: generator)
      #expect(try sigmas.min().item() >= 0 && sigmas.max().item() <= 1)
      means.append(try sigmas.mean().item())
    }
    #expect(means == means.sorted())
    #expect(means[3] - means[0] > 0.1)
    let uniform = try TimestepSampler.uniform(minimum: 0.2, maximum: 0.4).sample(
      4000, tokens: 1, from: generator)
    #expect(try uniform.min().item() >= 0.2 && uniform.max().item() <= 0.4)
    #expect(try abs(uniform.mean().item() - 0.3) < 0.01)
  }
}
