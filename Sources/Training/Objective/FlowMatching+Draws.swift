// B batch, C latent channels, T tokens.

import LTX
import Support
import Torch

extension FlowMatching {
  /// Draws the random numbers of a batch.
  ///
  /// Each sample has its own generator, so the numbers are independent of batches and ranks. The
  /// order is sigma, noise and conditions of the video, then of the audio.
  ///
  /// - Parameters:
  ///   - batch: the batch, for its shapes.
  ///   - samples: one generator for each sample.
  ///   - step: the generator of decisions on references, which hold for a whole step.
  public func draws(
    for batch: TrainingBatch, samples: [Generator], step: Generator
  ) throws -> TrainingDraws {
    var all = TrainingDraws()
    for modality in Modality.allCases {
      guard let strategy = strategies[modality] else { continue }
      all[modality] = try draws(
        strategy, modality, batch[modality],
        sigma: strategy.takesVideoSigma ? all.video?.sigma : nil, samples, step)
    }
    return all
  }

  private func draws(
    _ strategy: ModalityStrategy, _ modality: Modality, _ batch: ModalityBatch?, sigma: Tensor?,
    _ samples: [Generator], _ step: Generator
  ) throws -> ModalityDraws {
    guard let latents = batch?.latents.tensor else {
      throw Issue(["batch", .name("\(modality)")], "has no latents, which the strategy needs")
    }
    let device = latents.device
    var result = ModalityDraws(sigma: sigma, noise: nil, conditions: [])
    if strategy.isGenerated {
      let tokens = modality.tokenCount(latents.shape)
      var sigmas: [Tensor] = []
      var noise: [Tensor] = []
      for generator in samples {
        if sigma == nil { sigmas.append(try sampler.sample(1, tokens: tokens, from: generator)) }
        noise.append(try generator.normal([1, tokens, latents.count / (latents.size(0) * tokens)]))
      }
      if sigma == nil { result.sigma = try Tensor.cat(sigmas, 0).to(device) }
      result.noise = try Tensor.cat(noise, 0).to(device)
    }
    for condition in strategy.conditions {
      if condition.referenceFolder == nil {
        result.conditions.append(try samples.map { try $0.uniform([1]).item() })
      } else {
        let number = try step.uniform([1]).item()
        result.conditions.append(samples.map { _ in number })
      }
    }
    return result
  }
}
