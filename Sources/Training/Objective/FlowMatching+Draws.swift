// B batch, C latent channels, T tokens.

import LTX
import Support
import Torch

extension FlowMatching {
  /// Draws the random numbers of a batch.
  ///
  /// Each sample has a generator of its own, so that the numbers do not depend on how samples are
  /// shared out to batches and ranks. In this order: sigma, noise and conditions of the video, then
  /// of the sound.
  ///
  /// - Parameters:
  ///   - batch: for the shapes.
  ///   - samples: one generator for each sample.
  ///   - step: where the decisions on references come from, which are those of a whole step.
  public func draws(for batch: TrainingBatch, samples: [Generator], step: Generator) throws
    -> TrainingDraws
  {
    let video = try strategies.video.map { strategy in
      try draws(strategy, .video, batch.video, sigma: nil, samples, step)
    }
    let audio = try strategies.audio.map { strategy in
      try draws(
        strategy, .audio, batch.audio, sigma: strategy.takesVideoSigma ? video?.sigma : nil,
        samples, step)
    }
    return TrainingDraws(video: video, audio: audio)
  }

  private func draws(
    _ strategy: StreamStrategy, _ kind: Modality, _ stream: TrainingBatch.Stream?, sigma: Tensor?,
    _ samples: [Generator], _ step: Generator
  ) throws -> ModalityDraws {
    guard let latents = stream?.latents.tensor else {
      throw Issue(["batch", .name("\(kind)")], "has no latents, which the strategy needs")
    }
    let device = latents.device
    var result = ModalityDraws(sigma: sigma, noise: nil, conditions: [])
    if strategy.isGenerated {
      let tokens = kind.tokenCount(latents.shape)
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
