import LTX
import Torch

/// `video-vae-encode`: encodes pixels [B, 3, frames, height, width] to normalized latents.
func probeVideoVAEEncode(_ options: Probe.Options, _ inputs: ProbeInputs) throws -> [(
  key: String, tensor: Tensor
)] {
  let encoder = try Checkpoint(path: options.requireModel())
    .videoEncoder(dtype: options.dtype, device: options.device)
  let pixels = try inputs.float(
    "pixels", "B \(encoder.configuration.pixelChannels) frames height width")
  let tiling = try readTiling(inputs)
  return try withInference {
    [("latent", try encoder.encode(pixels.to(options.dtype), tiling: tiling))]
  }
}

/// `video-vae-decode`: decodes normalized latents [B, C, F, H, W] to pixels, without clamping.
func probeVideoVAEDecode(_ options: Probe.Options, _ inputs: ProbeInputs) throws -> [(
  key: String, tensor: Tensor
)] {
  let decoder = try Checkpoint(path: options.requireModel())
    .videoDecoder(dtype: options.dtype, device: options.device)
  let latent = try inputs.float("latent", "B \(decoder.configuration.latentChannels) F H W")
  let tiling = try readTiling(inputs)
  var timestep = VideoDecoder.usualTimestep
  var noise: NoiseSource?
  if decoder.needsNoise {
    if decoder.configuration.hasTimestepConditioning {
      timestep = try inputs.number("timestep", default: VideoDecoder.usualTimestep)
    }
    // Noise that layers inject has two dimensions, and is numbered in the order of use.
    var injected = 0
    noise = { shape in
      let sizes = shape.map(String.init).joined(separator: " ")
      if shape.count == 5 { return try inputs.float("noise", sizes) }
      defer { injected += 1 }
      return try inputs.float("inject_noise.\(injected)", sizes)
    }
  }
  return try withInference {
    [
      (
        "pixels",
        try decoder.decode(
          latent.to(options.dtype), tiling: tiling, timestep: timestep, noise: noise)
      )
    ]
  }
}

/// `tile` [3, 2]: the rows are frames, height and width; the columns are size and overlap. Size 0
/// turns an axis's tiling off.
private func readTiling(_ inputs: ProbeInputs) throws -> Tiling? {
  guard let numbers: [Int] = try inputs.optionalInt("tile", "3 2")?.array() else { return nil }
  func axis(_ row: Int) -> Tiling.Axis? {
    numbers[2 * row] == 0 ? nil : Tiling.Axis(size: numbers[2 * row], overlap: numbers[2 * row + 1])
  }
  return Tiling(frames: axis(0), height: axis(1), width: axis(2))
}

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

/// `audio-vae-encode`: encodes a waveform [B, 2, samples] to its log-mel spectrogram and its
/// normalized latent.
func probeAudioVAEEncode(_ options: Probe.Options, _ inputs: ProbeInputs) throws -> [(
  key: String, tensor: Tensor
)] {
  let encoder = try Checkpoint(path: options.requireModel())
    .audioEncoder(dtype: options.dtype, device: options.device)
  let waveform = try inputs.float("waveform", "B \(encoder.configuration.audioChannels) samples")
  let sampleRate = try inputs.integer("sample_rate")
  return try withInference {
    let mel = try encoder.spectrogram(waveform, sampleRate: sampleRate)
    return [("mel", mel), ("latent", try encoder.encode(mel))]
  }
}

/// `audio-vae-decode`: decodes a normalized latent [B, Z, T, 16] to its log-mel spectrogram and
/// waveform, or a spectrogram [B, 2, T, 64] to the waveform alone.
func probeAudioVAEDecode(_ options: Probe.Options, _ inputs: ProbeInputs) throws -> [(
  key: String, tensor: Tensor
)] {
  let checkpoint = try Checkpoint(path: options.requireModel())
  let vocoder = try checkpoint.vocoder(dtype: options.dtype, device: options.device)
  if !inputs.has("latent"), let mel = try inputs.optionalFloat("mel", "B 2 T \(vocoder.melBins)") {
    return try withInference { [("waveform", try vocoder(mel))] }
  }
  let decoder = try checkpoint.audioDecoder(dtype: options.dtype, device: options.device)
  let configuration = decoder.configuration
  let latent = try inputs.float(
    "latent", "B \(configuration.latentChannels) T \(configuration.frequencyBins)")
  return try withInference {
    let mel = try decoder(latent)
    return [("mel", mel), ("waveform", try vocoder(mel))]
  }
}
