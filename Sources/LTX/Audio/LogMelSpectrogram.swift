// B batch, C channels, N samples, T spectrogram frames, M mel frequencies.

import NN
import Support
import Torch

/// Computes the logarithm of the mel spectrogram of audio, always in float32 (ltx-core,
/// `audio_vae/ops.py`; torchaudio's `MelSpectrogram` with Slaney's scale and norm and a power of
/// 1).
public struct LogMelSpectrogram: Sendable {
  public let sampleRate: Int
  private let hopLength: Int
  private let fftLength: Int
  private let melBins: Int
  /// [fftLength], periodic Hann
  private let window: Tensor
  /// [fftLength / 2 + 1, M]
  private let filters: Tensor

  public init(_ configuration: AudioVAEConfiguration, device: Device = .cpu) throws {
    sampleRate = configuration.sampleRate
    hopLength = configuration.hopLength
    fftLength = configuration.fftLength
    melBins = configuration.melBins
    window = try MelFilters.hannWindow(fftLength).to(device)
    filters = try MelFilters.slaney(sampleRate: sampleRate, fftLength: fftLength, melBins: melBins)
      .to(device)
  }

  /// - Parameter waveform: [B, C, N], at any rate.
  /// - Returns: [B, C, T, M] with T = 1 + N / hop, N at the spectrogram's own rate.
  /// - Throws: `Issue` for a waveform that is too short, of another shape or without a rate.
  public func callAsFunction(_ waveform: Tensor, sampleRate rate: Int) throws -> Tensor {
    guard (1...SincResampler.highestRate).contains(rate) else {
      throw SincResampler.rateIssue(rate)
    }
    let given = waveform.shape
    guard given.count == 3, given[0] > 0, given[1] > 0 else {
      throw Issue.shape("waveform", given, expected: "[batch, channels, samples]")
    }
    // Half a window is mirrored at each end, which needs one sample more.
    let mirrored = fftLength / 2
    guard given[2] * sampleRate > mirrored * rate else {
      throw Issue(
        ["waveform"],
        "is too short for a spectrogram (got \(given[2]) samples at \(rate) samples per second, "
          + "expected at least \(mirrored * rate / sampleRate + 1))",
        suggestion: "Add silence at the end.")
    }
    let audio = try SincResampler.resample(
      waveform.to(window.device, .float32), from: rate, to: sampleRate)
    let magnitude = try audio.flatten(from: 0, through: 1)
      .shortTimeFourier(size: fftLength, hop: hopLength, window: window, complex: true).abs()
    let mel = try magnitude.transpose(1, 2).matmul(filters).clamped(min: 1e-5).log()
    return try mel.unflatten(0, [given[0], given[1]])
  }
}
