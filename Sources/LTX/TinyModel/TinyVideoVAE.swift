/// The video VAE of the tiny model: the published one's kinds of blocks and its 32 x 32 x 8 compression, few channels.
enum TinyVideoVAE {
  static let latentChannels = 16
  static let patch = 4
  /// The reference takes the latent's for it, as they are equal in the published one.
  static let encoderChannels = latentChannels
  static let decoderChannels = 8

  private enum Block {
    case residual(layers: Int)
    /// Moves positions into channels (or back): `name` for the configuration, `factor` positions into one.
    case resampling(name: String, factor: Int)
  }

  private static let encoderBlocks: [Block] = [
    .residual(layers: 2), .resampling(name: "compress_space_res", factor: 4),
    .residual(layers: 2), .resampling(name: "compress_time_res", factor: 2),
    .residual(layers: 2), .resampling(name: "compress_all_res", factor: 8),
    .residual(layers: 1), .resampling(name: "compress_all_res", factor: 8),
    .residual(layers: 1),
  ]

  /// From the pixels to the latent: the decoder runs through them backwards.
  private static let decoderBlocks: [Block] = [
    .residual(layers: 2), .resampling(name: "compress_all", factor: 8),
    .residual(layers: 2), .resampling(name: "compress_all", factor: 8),
    .residual(layers: 1), .resampling(name: "compress_all", factor: 8),
    .residual(layers: 1),
  ]

  /// Draws everything below `vae`.
  static func draw(_ w: RandomWeights) throws {
    let pixels = 3 * patch * patch
    let encoder = w / "encoder"
    var channels = encoderChannels
    try convolution(encoder / "conv_in", pixels, channels)
    for (index, block) in encoderBlocks.enumerated() {
      let place = encoder / "down_blocks" / index
      switch block {
      case .residual(let layers): try residual(place, channels, layers: layers)
      case .resampling(_, let factor):
        try convolution(place / "conv", channels, 2 * channels / factor)
        channels *= 2
      }
    }
    // One channel more than the latent: the log-variance, shared by all.
    try convolution(encoder / "conv_out", channels, latentChannels + 1)

    let decoder = w / "decoder"
    channels = decoderChannels
    for case .resampling in decoderBlocks { channels *= 2 }
    try convolution(decoder / "conv_in", latentChannels, channels)
    for (index, block) in decoderBlocks.reversed().enumerated() {
      let place = decoder / "up_blocks" / index
      switch block {
      case .residual(let layers): try residual(place, channels, layers: layers)
      case .resampling(_, let factor):
        try convolution(place / "conv", channels, channels * factor / 2)
        channels /= 2
      }
    }
    try convolution(decoder / "conv_out", channels, pixels)

    let statistics = w / "per_channel_statistics"
    try statistics.normal("mean-of-means", [latentChannels], deviation: 0.3)
    try statistics.uniform("std-of-means", [latentChannels], from: 0.5, to: 1)
    // In the published file, read by nobody.
    for name in ["channel", "mean-of-stds", "mean-of-stds_over_std-of-means"] {
      try statistics.uniform(name, [latentChannels], from: 0.5, to: 1)
    }
  }

  private static func residual(_ w: RandomWeights, _ channels: Int, layers: Int) throws {
    for layer in 0..<layers {
      for name in ["conv1", "conv2"] {
        try convolution(w / "res_blocks" / layer / name, channels, channels)
      }
    }
  }

  private static func convolution(_ w: RandomWeights, _ inputs: Int, _ outputs: Int) throws {
    try (w / "conv").convolution(inputs, outputs, kernel: [3, 3, 3])
  }

  static var config: String {
    let encoder = encoderBlocks.map { block in
      switch block {
      case .residual(let layers): #"["res_x", {"num_layers": \#(layers)}]"#
      case .resampling(let name, _): #"["\#(name)", {"multiplier": 2}]"#
      }
    }
    let decoder = decoderBlocks.map { block in
      switch block {
      case .residual(let layers): #"["res_x", {"num_layers": \#(layers), "inject_noise": false}]"#
      case .resampling(let name, _): #"["\#(name)", {"residual": true, "multiplier": 2}]"#
      }
    }
    return """
      {
        "_class_name": "CausalVideoAutoencoder",
        "dims": 3,
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": \(latentChannels),
        "encoder_blocks": [\(encoder.joined(separator: ", "))],
        "decoder_blocks": [\(decoder.joined(separator: ", "))],
        "scaling_factor": 1.0,
        "norm_layer": "pixel_norm",
        "patch_size": \(patch),
        "latent_log_var": "uniform",
        "use_quant_conv": false,
        "causal_decoder": false,
        "timestep_conditioning": false,
        "normalize_latent_channels": false,
        "encoder_base_channels": \(encoderChannels),
        "decoder_base_channels": \(decoderChannels)
      }
      """
  }
}
