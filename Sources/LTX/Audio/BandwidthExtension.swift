// B batch, N samples at the lower rate, T frames of the mel spectrogram, M its frequencies.

import NN
import Torch

/// Raises the sample rate of audio, and adds the high frequencies that a second generator computes
/// from its mel spectrogram (ltx-core, `audio_vae/vocoder.py`, `VocoderWithBWE`).
struct BandwidthExtension: Sendable {
  private let configuration: VocoderConfiguration.Extension
  private let generator: WaveGenerator
  /// [2 (fft / 2 + 1), 1, fft]: windowed cosines, then sines; from the checkpoint, because it was
  /// trained with them.
  private let fourierBasis: Tensor
  /// [M, fft / 2 + 1]
  private let melBasis: Tensor
  /// [2, 1, 2 width ratio + 1]
  private let sincFilter: Tensor

  /// The number of samples on either side that the sinc reaches.
  private static let reach = Int((SincResampler.width / SincResampler.rolloff).rounded(.up))

  init(_ w: Weights, configuration: VocoderConfiguration.Extension) throws {
    self.configuration = configuration
    generator = try WaveGenerator(
      w / "bwe_generator", inputs: Vocoder.channels * configuration.melBins,
      configuration: configuration.generator)
    let frequencies = configuration.fftLength / 2 + 1
    let mel = w / "mel_stft"
    fourierBasis = try (mel / "stft_fn").tensor(
      "forward_basis", shape: [2 * frequencies, 1, configuration.fftLength])
    melBasis = try mel.tensor("mel_basis", shape: [configuration.melBins, frequencies])
    sincFilter = try Self.sinc(ratio: configuration.ratio).to(generator.device)
      .expand([Vocoder.channels, 1, -1]).contiguous()
  }

  /// - Parameter audio: [B, 2, N]
  /// - Returns: [B, 2, N * ratio], from -1 to 1
  func callAsFunction(_ audio: Tensor) throws -> Tensor {
    let samples = audio.size(2)
    let hop = configuration.hopLength
    let rest = samples % hop
    let padded = rest == 0 ? audio : try audio.pad([0, hop - rest])
    let high = try generator(logMel(padded).flatten(from: 1, through: 2))
    try high.add_(upsampled(padded))
    try high.clamp_(min: -1, max: 1)
    return try high.narrow(2, 0, samples * configuration.ratio).contiguous()
  }

  /// - Returns: [B, 2, M, T]; each frame sees the past and its own samples only.
  private func logMel(_ audio: Tensor) throws -> Tensor {
    let shape = audio.shape
    let spectrum = try audio.reshape([-1, 1, shape[2]]).pad([
      configuration.fftLength - configuration.hopLength, 0,
    ])
    .conv1d(fourierBasis, stride: [configuration.hopLength])
    let parts = try spectrum.square().chunk(2, 1)
    let magnitude = try (parts[0] + parts[1]).sqrt()
    return try melBasis.matmul(magnitude).clamped(min: 1e-5).log().unflatten(
      0, [shape[0], shape[1]])
  }

  /// The same audio at the higher rate: [B, 2, N * ratio].
  private func upsampled(_ audio: Tensor) throws -> Tensor {
    let (reach, ratio) = (Self.reach, configuration.ratio)
    let padded = try audio.pad([reach, reach], mode: "replicate")
    return try padded.convTransposed1d(sincFilter, stride: [ratio], groups: Vocoder.channels)
      .narrow(2, 2 * reach * ratio, audio.size(2) * ratio)
  }

  /// `SincResampler`'s filter, [1, 1, 2 reach ratio + 1]; the factor `ratio` that compensates for
  /// zeros between samples cancels its division.
  private static func sinc(ratio: Int) throws -> Tensor {
    let count = 2 * reach * ratio + 1
    let times =
      try Tensor.arange(to: Scalar(count), dtype: .float32) / Double(ratio) - Double(reach)
    return try SincResampler.filter(times, limit: SincResampler.rolloff, step: 1).reshape([
      1, 1, count,
    ])
  }
}
