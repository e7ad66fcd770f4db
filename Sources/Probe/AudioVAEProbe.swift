import LTX
import Torch

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
