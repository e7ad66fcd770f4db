import Foundation
import LTX
import NN
import TensorFiles
import TestSupport
import Testing
import Torch

@Suite struct SecondOrderSamplingTests {

  /// float32 predictions, four steps with two of them each; the rest is in float64. Each prediction
  /// is off by a few 1e-6.
  @Test func bothModalitiesEndWhereLtxPipelinesEnds() throws {
    let file = try SafetensorsFile(path: Fixtures.root + "/second-order-sampling.safetensors")
    let transformer = try Checkpoint(path: Fixtures.model("ltx2_transformer"))
      .transformer(LoadPolicy(dtype: .float32))
    func sampled(_ name: String, cfg: Double) throws -> SampledModality {
      var guidance = Guidance()
      guidance.cfg = cfg
      return try SampledModality(
        noise: file.tensor("\(name).noise"),
        sequence: LatentSequence(
          clean: file.tensor("\(name).clean"), denoiseMask: file.tensor("\(name).denoise_mask"),
          positions: file.tensor("\(name).positions")),
        context: file.tensor("\(name).context"),
        negativeContext: file.tensor("\(name).negative_context"),
        guidance: guidance)
    }
    let sigmas: [Float] = try file.tensor("sigmas").array()
    var steps: [Int] = []
    let end = try withInference {
      try Sampler(transformer: transformer, method: .res2s).sample(
        PerModality(video: sampled("video", cfg: 3), audio: sampled("audio", cfg: 5)),
        sigmas: sigmas
      ) { step, _ in steps.append(step) }
    }
    #expect(steps == [0, 1, 2, 3])
    for (name, latent) in [("video", end.video?.latent), ("audio", end.audio?.latent)] {
      let wanted = try file.tensor("expected.\(name).latent")
      let difference = try #require(latent) - wanted
      let error = try difference.abs().amax().item() / wanted.abs().amax().item()
      #expect(error < 1e-4, "\(name): \(error)")
    }
  }
}
