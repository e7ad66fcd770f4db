/// The audio VAE of the tiny model: the published layers in any size. The default sizes are those
/// of the tiny model.
package struct TinyAudioVAE {
  package static let melBins = 64
  package var latentChannels = 2
  /// The widths of the levels, in units of `channels`, from the spectrogram to the latent.
  package var multipliers = [1, 2, 4]
  /// The residual blocks of a level.
  package var layers = 2

  package init(latentChannels: Int = 2) { self.latentChannels = latentChannels }

  /// A token's channels: the latent's, times the frequencies after two halvings.
  var patchChannels: Int { latentChannels * Self.melBins / 4 }
  /// The width of the coders, which equals the number of statistics and so that of a token's
  /// channels.
  var channels: Int { patchChannels }

  /// Draws all tensors below `audio_vae`.
  package func draw(_ w: RandomWeights, _ generation: TinyModel.Generation) throws {
    let widths = multipliers.map { channels * $0 }
    let deepest = channels * (multipliers.last ?? 1)

    let encoder = w / "encoder"
    try convolution(encoder / "conv_in", 2, channels)
    var inputs = channels
    for (level, outputs) in widths.enumerated() {
      let place = encoder / "down" / level
      try residual(place / "block", inputs, outputs, layers: layers)
      if level < widths.count - 1 {
        // This convolution isn't causal, so its key has one name less.
        try (place / "downsample" / "conv").convolution(outputs, outputs, kernel: [3, 3])
      }
      inputs = outputs
    }
    try middle(encoder / "mid", deepest)
    try convolution(encoder / "conv_out", deepest, 2 * latentChannels)

    let decoder = w / "decoder"
    try convolution(decoder / "conv_in", latentChannels, deepest)
    try middle(decoder / "mid", deepest)
    inputs = deepest
    for (level, outputs) in widths.enumerated().reversed() {
      let place = decoder / "up" / level
      try residual(place / "block", inputs, outputs, layers: layers + 1)
      if level > 0 { try convolution(place / "upsample" / "conv", outputs, outputs) }
      inputs = outputs
    }
    try convolution(decoder / "conv_out", channels, 2)

    let statistics = (w / "per_channel_statistics").stored(as: generation.tableType)
    try statistics.normal("mean-of-means", [patchChannels], deviation: 0.3)
    try statistics.uniform("std-of-means", [patchChannels], from: 0.5, to: 1)
  }

  private func middle(_ w: RandomWeights, _ width: Int) throws {
    for name in ["block_1", "block_2"] { try residual(w / name, width, width) }
  }

  private func residual(_ w: RandomWeights, _ inputs: Int, _ outputs: Int, layers: Int)
    throws
  {
    for layer in 0..<layers { try residual(w / layer, layer == 0 ? inputs : outputs, outputs) }
  }

  private func residual(_ w: RandomWeights, _ inputs: Int, _ outputs: Int) throws {
    try convolution(w / "conv1", inputs, outputs)
    try convolution(w / "conv2", outputs, outputs)
    if inputs != outputs { try convolution(w / "nin_shortcut", inputs, outputs, kernel: 1) }
  }

  private func convolution(
    _ w: RandomWeights, _ inputs: Int, _ outputs: Int, kernel: Int = 3
  ) throws {
    try (w / "conv").convolution(inputs, outputs, kernel: [kernel, kernel])
  }

  package var config: String {
    """
    {
      "model": {
        "params": {
          "ddconfig": {
            "double_z": true,
            "mel_bins": \(Self.melBins),
            "z_channels": \(latentChannels),
            "resolution": 256,
            "downsample_time": false,
            "in_channels": 2,
            "out_ch": 2,
            "ch": \(channels),
            "ch_mult": \(multipliers),
            "num_res_blocks": \(layers),
            "attn_resolutions": [],
            "dropout": 0.0,
            "mid_block_add_attention": false,
            "norm_type": "pixel",
            "causality_axis": "height"
          },
          "sampling_rate": 16000
        }
      },
      "preprocessing": {
        "audio": {
          "sampling_rate": 16000,
          "max_wav_value": 32768.0,
          "duration": 10.24,
          "stereo": true,
          "causal_padding": 3
        },
        "stft": {"filter_length": 1024, "hop_length": 160, "win_length": 1024, "causal": true},
        "mel": {"n_mel_channels": \(Self.melBins), "mel_fmin": 0, "mel_fmax": 8000}
      },
      "variables": {"mel_bins": \(Self.melBins)}
    }
    """
  }
}

/// The vocoder of the tiny LTX-2 model: HiFi-GAN, from the mel spectrogram to the waveform.
enum TinyVocoder {
  static let channels = 64
  static let upsampling = [6, 5, 2, 2, 2]
  static let upsamplingKernels = [16, 15, 8, 4, 4]
  static let kernels = [3, 7, 11]
  static let dilations = [1, 3, 5]

  /// Draws all tensors below `vocoder`.
  static func draw(_ w: RandomWeights) throws {
    try (w / "conv_pre").convolution(2 * TinyAudioVAE.melBins, channels, kernel: [7])
    var width = channels
    for (stage, stride) in upsampling.enumerated() {
      try (w / "ups" / stage).upsampling(
        width, width / 2, kernel: upsamplingKernels[stage], stride: stride)
      width /= 2
      for (index, kernel) in kernels.enumerated() {
        let place = w / "resblocks" / (stage * kernels.count + index)
        for layer in dilations.indices {
          try (place / "convs1" / layer).convolution(width, width, kernel: [kernel])
          // 45 residuals add up; larger ones would saturate the final tanh.
          try (place / "convs2" / layer).convolution(width, width, kernel: [kernel], gain: 0.3)
        }
      }
    }
    try (w / "conv_post").convolution(width, 2, kernel: [7])
  }

  static var config: String {
    """
    {
      "upsample_initial_channel": \(channels),
      "resblock": "1",
      "upsample_rates": \(upsampling),
      "resblock_kernel_sizes": \(kernels),
      "upsample_kernel_sizes": \(upsamplingKernels),
      "resblock_dilation_sizes": \(kernels.map { _ in dilations }),
      "stereo": true
    }
    """
  }
}
