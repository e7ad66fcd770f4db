import TensorFiles
import Torch

/// A small random video VAE: the published kinds of blocks and their 32 x 32 x 8 compression, in
/// any width. The default sizes are those of the tiny model.
public struct TinyVideoVAE: Sendable {
  public var generation: TinyModel.Generation
  public var latentChannels = 16
  /// The channels of the last features; the features at the latent have eight times as many.
  public var decoderChannels = 8
  /// The layers of the residual blocks, from the pixels to the latent.
  public var encoderLayers = [2, 2, 2, 1, 1]
  public var decoderLayers: [Int]
  let patch = 4

  public init(generation: TinyModel.Generation = .ltx2) {
    self.generation = generation
    decoderLayers = generation == .ltx2 ? [2, 2, 1, 1] : [2, 2, 1, 1, 1]
  }

  /// The channels of the first features. Upstream uses the latent's, which are equal in the
  /// published model.
  var encoderChannels: Int { latentChannels }

  /// Writes a checkpoint that contains only the video VAE, in bfloat16.
  public func write(to path: String, seed: UInt64) throws {
    let drawn = RandomWeights.Drawn(try Generator(seed: seed))
    try draw(RandomWeights(into: drawn) / "vae")
    try writeSafetensors(drawn.tensors, metadata: ["config": "{\"vae\": \(config)}"], to: path)
  }

  private enum Block {
    case residual(layers: Int)
    /// Moves `factor` positions into channels, which multiplies their number by `multiplier` (or
    /// back): `name` is the configuration's.
    case resampling(name: String, factor: Int, multiplier: Int = 2)
  }

  private var encoderBlocks: [Block] {
    Self.blocks(
      layers: encoderLayers,
      [
        .resampling(name: "compress_space_res", factor: 4),
        .resampling(name: "compress_time_res", factor: 2),
        .resampling(name: "compress_all_res", factor: 8),
        .resampling(name: "compress_all_res", factor: 8, multiplier: generation == .ltx2 ? 2 : 1),
      ])
  }

  /// From the pixels to the latent: the decoder runs through them in reverse.
  private var decoderBlocks: [Block] {
    let whole = Block.resampling(name: "compress_all", factor: 8)
    return Self.blocks(
      layers: decoderLayers,
      generation == .ltx2
        ? [whole, whole, whole]
        : [
          .resampling(name: "compress_space", factor: 4),
          .resampling(name: "compress_time", factor: 2),
          .resampling(name: "compress_all", factor: 8, multiplier: 1), whole,
        ])
  }

  /// Residual blocks with a change of resolution between each two of them.
  private static func blocks(layers: [Int], _ changes: [Block]) -> [Block] {
    precondition(layers.count == changes.count + 1, "a residual block on each side of a change")
    return layers.indices.flatMap { index in
      [.residual(layers: layers[index])] + (index < changes.count ? [changes[index]] : [])
    }
  }

  /// Draws all tensors below `vae`.
  func draw(_ w: RandomWeights) throws {
    let pixels = 3 * patch * patch
    let encoder = w / "encoder"
    var channels = encoderChannels
    try convolution(encoder / "conv_in", pixels, channels)
    for (index, block) in encoderBlocks.enumerated() {
      let place = encoder / "down_blocks" / index
      switch block {
      case .residual(let layers): try residual(place, channels, layers: layers)
      case .resampling(_, let factor, let multiplier):
        try convolution(place / "conv", channels, multiplier * channels / factor)
        channels *= multiplier
      }
    }
    // One channel more than the latent: the log-variance, which all channels share.
    try convolution(encoder / "conv_out", channels, latentChannels + 1)

    let decoder = w / "decoder"
    channels = decoderChannels
    for case .resampling(_, _, let multiplier) in decoderBlocks { channels *= multiplier }
    try convolution(decoder / "conv_in", latentChannels, channels)
    for (index, block) in decoderBlocks.reversed().enumerated() {
      let place = decoder / "up_blocks" / index
      switch block {
      case .residual(let layers): try residual(place, channels, layers: layers)
      case .resampling(_, let factor, let multiplier):
        try convolution(place / "conv", channels, channels * factor / multiplier)
        channels /= multiplier
      }
    }
    try convolution(decoder / "conv_out", channels, pixels)

    let statistics = (w / "per_channel_statistics").stored(as: generation.tableType)
    try statistics.normal("mean-of-means", [latentChannels], deviation: 0.3)
    try statistics.uniform("std-of-means", [latentChannels], from: 0.5, to: 1)
    // Also in the published file, where nothing reads them.
    for name in ["channel", "mean-of-stds", "mean-of-stds_over_std-of-means"] {
      try statistics.uniform(name, [latentChannels], from: 0.5, to: 1)
    }
  }

  private func residual(_ w: RandomWeights, _ channels: Int, layers: Int) throws {
    for layer in 0..<layers {
      for name in ["conv1", "conv2"] {
        try convolution(w / "res_blocks" / layer / name, channels, channels)
      }
    }
  }

  private func convolution(_ w: RandomWeights, _ inputs: Int, _ outputs: Int) throws {
    try (w / "conv").convolution(inputs, outputs, kernel: [3, 3, 3])
  }

  var config: String {
    let encoder = encoderBlocks.map { block in
      switch block {
      case .residual(let layers): #"["res_x", {"num_layers": \#(layers)}]"#
      case .resampling(let name, _, let multiplier):
        #"["\#(name)", {"multiplier": \#(multiplier)}]"#
      }
    }
    let decoder = decoderBlocks.map { block in
      switch (block, generation == .ltx2) {
      case (.residual(let layers), true):
        #"["res_x", {"num_layers": \#(layers), "inject_noise": false}]"#
      case (.residual(let layers), false): #"["res_x", {"num_layers": \#(layers)}]"#
      case (.resampling(let name, _, let multiplier), true):
        #"["\#(name)", {"residual": true, "multiplier": \#(multiplier)}]"#
      case (.resampling(let name, _, let multiplier), false):
        #"["\#(name)", {"multiplier": \#(multiplier)}]"#
      }
    }
    let padding = generation == .ltx2 ? "" : ",\n    \"spatial_padding_mode\": \"zeros\""
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
        "decoder_base_channels": \(decoderChannels)\(padding)
      }
      """
  }
}
