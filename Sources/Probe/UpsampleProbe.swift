import LTX
import Torch

/// `upsample`: upsamples normalized latents [B, C, F, H, W]. `--model` is the upsampler's own file.
func probeUpsample(_ options: Probe.Options, _ inputs: ProbeInputs) throws -> [(
  key: String, tensor: Tensor
)] {
  let upsampler = try LatentUpsampler(
    path: options.requireModel(), dtype: options.dtype, device: options.device)
  inputs.fix("C", upsampler.configuration.inputChannels)
  let latent = try inputs.float("latent", "B C F H W").to(options.dtype)
  let statistics = ChannelStatistics(
    mean: try inputs.float("mean", "C"), std: try inputs.float("std", "C"))
  return try withInference { [("latent", try upsampler(latent, statistics: statistics))] }
}
