import Foundation
import NN
import Torch

/// The vocoder of the tiny LTX-2.3 model: BigVGAN v2 to 16 kHz, and a second one that extends its
/// audio to 48 kHz. The layers are the published ones in any size; the default sizes are those of
/// the tiny model.
package struct TinyBandwidthExtendingVocoder {
  /// The sizes of one of the two networks.
  package struct Generator {
    /// Channels before the first upsampling.
    package var channels: Int
    package var upsampling: [Int]
    package var upsamplingKernels: [Int]
    package var kernels = [3, 7, 11]
    package var dilations = [1, 3, 5]

    package init(channels: Int, upsampling: [Int], upsamplingKernels: [Int]) {
      self.channels = channels
      self.upsampling = upsampling
      self.upsamplingKernels = upsamplingKernels
    }
  }

  package var vocoder: Generator
  package var extender: Generator
  package var fftLength: Int
  /// The number of frequencies of the second generator's spectrogram.
  package var extenderBins = TinyAudioVAE.melBins
  /// The dtype of the snakes' filters. In bfloat16 they scale a signal by up to 0.2 %.
  package var filterType = DType.bfloat16

  package init(channels: Int = 64, extenderChannels: Int = 64, fftLength: Int = 256) {
    vocoder = Generator(
      channels: channels, upsampling: [5, 2, 2, 2, 2, 2], upsamplingKernels: [11, 4, 4, 4, 4, 4])
    extender = Generator(
      channels: extenderChannels, upsampling: [6, 5, 2, 2, 2],
      upsamplingKernels: [12, 11, 4, 4, 4])
    self.fftLength = fftLength
  }

  private let inputRate = 16000
  private let outputRate = 48000
  private let hop = 80

  /// Draws all tensors below `vocoder`.
  package func draw(_ w: RandomWeights) throws {
    try draw(vocoder, w / "vocoder", bins: TinyAudioVAE.melBins)
    try draw(extender, w / "bwe_generator", bins: extenderBins)
    let mel = w / "mel_stft"
    let filters = try MelFilters.slaney(
      sampleRate: inputRate, fftLength: fftLength, melBins: extenderBins)
    try mel.fixed("mel_basis", filters.transpose(0, 1).contiguous())
    let basis = try fourierBasis()
    try (mel / "stft_fn").fixed("forward_basis", basis)
    // Also in the published file, where nothing reads it.
    try (mel / "stft_fn").fixed("inverse_basis", basis)
  }

  private func draw(_ generator: Generator, _ w: RandomWeights, bins: Int) throws {
    var width = generator.channels
    let (kernels, dilations) = (generator.kernels, generator.dilations)
    try (w / "conv_pre").convolution(2 * bins, width, kernel: [7])
    for (stage, stride) in generator.upsampling.enumerated() {
      let kernel = generator.upsamplingKernels[stage]
      try (w / "ups" / stage).upsampling(width, width / 2, kernel: kernel, stride: stride)
      width /= 2
      for (index, kernel) in kernels.enumerated() {
        let place = w / "resblocks" / (stage * kernels.count + index)
        for layer in dilations.indices {
          try (place / "convs1" / layer).convolution(width, width, kernel: [kernel])
          // Many residuals add up, and a snake passes its full input.
          try (place / "convs2" / layer).convolution(width, width, kernel: [kernel], gain: 0.2)
          try activation(place / "acts1" / layer, width)
          try activation(place / "acts2" / layer, width)
        }
      }
    }
    try activation(w / "act_post", width)
    // Small enough that the sum of both generators' outputs is rarely clipped.
    try (w / "conv_post").normal(
      "weight", [2, width, 7], deviation: 0.1 / Double(7 * width).squareRoot())
  }

  private func activation(_ w: RandomWeights, _ channels: Int) throws {
    try (w / "act").normal("alpha", [channels], deviation: 0.3)
    try (w / "act").normal("beta", [channels], deviation: 0.3)
    let filter = try Self.lowPassFilter()
    try (w / "upsample").stored(as: filterType).fixed("filter", filter)
    try (w / "downsample" / "lowpass").stored(as: filterType).fixed("filter", filter)
  }

  /// A sinc with its cutoff at half of the limit, in a Kaiser window, with twelve taps: [1, 1, 12].
  private static func lowPassFilter() throws -> Tensor {
    let (taps, cutoff, halfWidth) = (12, 0.25, 0.3)
    let attenuation = 2.285 * Double(taps / 2 - 1) * .pi * 4 * halfWidth + 7.95
    let beta = 0.1102 * (attenuation - 8.7)
    let values = (0..<taps).map { index in
      let place = 2 * Double(index) / Double(taps - 1) - 1
      let angle = 2 * cutoff * (Double(index - taps / 2) + 0.5) * .pi
      return bessel(beta * (1 - place * place).squareRoot()) / bessel(beta) * sin(angle) / angle
    }
    let sum = values.reduce(0, +)
    return try Tensor(values.map { Float($0 / sum) }, shape: [1, 1, taps])
  }

  /// The modified Bessel function of order 0.
  private static func bessel(_ x: Double) -> Double {
    var (sum, term) = (1.0, 1.0)
    for k in 1...30 {
      term *= (x / 2 / Double(k)) * (x / 2 / Double(k))
      sum += term
    }
    return sum
  }

  /// Cosines, then sines, in a Hann window: [2 (fft / 2 + 1), 1, fft].
  private func fourierBasis() throws -> Tensor {
    let times = try Tensor.arange(to: Scalar(fftLength), dtype: .float64).unsqueeze(0)
    let frequencies = try Tensor.arange(to: Scalar(fftLength / 2 + 1), dtype: .float64).unsqueeze(1)
    let angles = try frequencies * times * (2 * Double.pi / Double(fftLength))
    let waves = try Tensor.cat([angles.cos(), angles.sin().negated()], 0).to(.float32)
    return try (waves * MelFilters.hannWindow(fftLength)).unsqueeze(1)
  }

  package var config: String {
    """
    {
      "vocoder": {
    \(shared(vocoder))
      },
      "bwe": {
    \(shared(extender)),
        "apply_final_activation": false,
        "input_sampling_rate": \(inputRate),
        "output_sampling_rate": \(outputRate),
        "hop_length": \(hop),
        "n_fft": \(fftLength),
        "win_size": \(fftLength),
        "num_mels": \(extenderBins)
      }
    }
    """
  }

  private func shared(_ generator: Generator) -> String {
    """
        "upsample_initial_channel": \(generator.channels),
        "resblock": "AMP1",
        "upsample_rates": \(generator.upsampling),
        "resblock_kernel_sizes": \(generator.kernels),
        "upsample_kernel_sizes": \(generator.upsamplingKernels),
        "resblock_dilation_sizes": \(generator.kernels.map { _ in generator.dilations }),
        "stereo": true,
        "use_tanh_at_final": false,
        "activation": "snakebeta",
        "use_bias_at_final": false
    """
  }
}
