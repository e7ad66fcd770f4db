/// The latent upsamplers of the tiny model: the published layers, with few channels.
enum TinyUpsampler: CaseIterable {
  case spatial, temporal

  private static let channels = 64
  private static let blocks = 1

  /// Draws all tensors of the upsampler's file.
  func draw(_ w: RandomWeights) throws {
    let (latent, channels) = (TinyVideoVAE().latentChannels, Self.channels)
    let cube = [3, 3, 3]
    try (w / "initial_conv").convolution(latent, channels, kernel: cube)
    try (w / "initial_norm").layerNorm(channels)
    for stage in ["res_blocks", "post_upsample_res_blocks"] {
      for index in 0..<Self.blocks {
        for layer in 1...2 {
          try (w / stage / index / "conv\(layer)").convolution(channels, channels, kernel: cube)
          try (w / stage / index / "norm\(layer)").layerNorm(channels)
        }
      }
    }
    switch self {
    // The new positions are computed as channels first.
    case .spatial: try (w / "upsampler" / 0).convolution(channels, 4 * channels, kernel: [3, 3])
    case .temporal: try (w / "upsampler" / 0).convolution(channels, 2 * channels, kernel: cube)
    }
    try (w / "final_conv").convolution(channels, latent, kernel: cube)
  }

  /// The metadata's `config`.
  var config: String {
    """
    {
      "_class_name": "LatentUpsampler",
      "in_channels": \(TinyVideoVAE().latentChannels),
      "mid_channels": \(Self.channels),
      "num_blocks_per_stage": \(Self.blocks),
      "dims": 3,
      "spatial_upsample": \(self == .spatial),
      "temporal_upsample": \(self == .temporal),
      "spatial_scale": 2.0,
      "rational_resampler": false
    }
    """
  }
}
