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
    .to(options.dtype)
  let tiling = try readTiling(inputs)
  switch decoder {
  case .convolutional(let decoder):
    var timestep = ConvolutionalVideoDecoder.usualTimestep
    if decoder.configuration.hasTimestepConditioning {
      timestep = try inputs.number("timestep", default: timestep)
    }
    // Noise that layers inject has two dimensions, and is numbered in the order of use.
    let noise = numberedNoise(inputs, "inject_noise") { $0.count == 5 ? "noise" : nil }
    return try withInference {
      [
        (
          "pixels",
          try decoder.decode(
            latent, tiling: tiling, timestep: timestep, noise: decoder.needsNoise ? noise : nil)
        )
      ]
    }
  case .diffusion(let decoder):
    let noise = numberedNoise(inputs, "pixel_noise")
    return try withInference {
      [("pixels", try decoder.decode(latent, tiling: tiling, noise: noise))]
    }
  }
}

/// A source of the noise `<prefix>.0`, `<prefix>.1`, … in the order of use.
///
/// - Parameter special: The name of noise of a shape that isn't numbered; nil for other shapes.
private func numberedNoise(
  _ inputs: ProbeInputs, _ prefix: String,
  except special: @escaping (_ shape: [Int]) -> String? = { _ in nil }
) -> NoiseSource {
  var count = 0
  return { shape in
    let sizes = shape.map(String.init).joined(separator: " ")
    if let name = special(shape) { return try inputs.float(name, sizes) }
    defer { count += 1 }
    return try inputs.float("\(prefix).\(count)", sizes)
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
