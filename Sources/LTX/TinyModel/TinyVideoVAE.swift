import TensorFiles
import Torch

/// A small random video VAE: the published kinds of blocks and their 32 x 32 x 8 compression, in
/// any width. The default sizes are those of the tiny model.
public struct TinyVideoVAE: Sendable {
  public var generation: TinyModel.Generation
  public var latentChannels = 16
  /// The channels of the last features; the features at the latent have more, as the changes of
  /// resolution say: eight times as many in the published model.
  public var decoderChannels = 8
  /// The layers of the residual blocks, from the pixels to the latent; 0 for no block.
  public var encoderLayers = [2, 2, 2, 1, 1]
  public var decoderLayers: [Int]
  /// The changes of resolution between the residual blocks, from the pixels to the latent.
  package var encoderChanges: [Resampling]
  package var decoderChanges: [Resampling]
  let patch = 4

  public init(generation: TinyModel.Generation = .ltx2) {
    self.generation = generation
    let isFirst = generation == .ltx2
    decoderLayers = isFirst ? [2, 2, 1, 1] : [2, 2, 1, 1, 1]
    encoderChanges = [
      .space(multiplier: 2), .time(multiplier: 2), .all(multiplier: 2),
      .all(multiplier: isFirst ? 2 : 1),
    ]
    decoderChanges =
      isFirst
      ? [.all(multiplier: 2), .all(multiplier: 2), .all(multiplier: 2)]
      : [
        .space(multiplier: 2), .time(multiplier: 2), .all(multiplier: 1), .all(multiplier: 2),
      ]
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

  /// A change of resolution: it moves positions into channels, which multiplies their number by
  /// `multiplier`, or back.
  package enum Resampling: Sendable {
    case space(multiplier: Int)
    case time(multiplier: Int)
    case all(multiplier: Int)

    /// The number of positions that become one.
    var factor: Int {
      switch self {
      case .space: 4
      case .time: 2
      case .all: 8
      }
    }

    var multiplier: Int {
      switch self {
      case .space(let multiplier), .time(let multiplier), .all(let multiplier): multiplier
      }
    }

    /// The configuration's name of the block, without what distinguishes the encoder's.
    var name: String {
      switch self {
      case .space: "compress_space"
      case .time: "compress_time"
      case .all: "compress_all"
      }
    }
  }

  private enum Block {
    case residual(layers: Int)
    case resampling(Resampling)
  }

  private var encoderBlocks: [Block] { Self.blocks(layers: encoderLayers, encoderChanges) }

  /// From the pixels to the latent: the decoder runs through them in reverse.
  private var decoderBlocks: [Block] { Self.blocks(layers: decoderLayers, decoderChanges) }

  /// Residual blocks with a change of resolution between each two of them.
  private static func blocks(layers: [Int], _ changes: [Resampling]) -> [Block] {
    precondition(layers.count == changes.count + 1, "a residual block on each side of a change")
    return layers.indices.flatMap { index -> [Block] in
      (layers[index] > 0 ? [.residual(layers: layers[index])] : [])
        + (index < changes.count ? [.resampling(changes[index])] : [])
    }
  }

  /// Draws all tensors below `vae`.
  package func draw(_ w: RandomWeights) throws {
    let pixels = 3 * patch * patch
    let encoder = w / "encoder"
    var channels = encoderChannels
    try convolution(encoder / "conv_in", pixels, channels)
    for (index, block) in encoderBlocks.enumerated() {
      let place = encoder / "down_blocks" / index
      switch block {
      case .residual(let layers): try residual(place, channels, layers: layers)
      case .resampling(let change):
        try convolution(
          place / "conv", channels, change.multiplier * channels / change.factor)
        channels *= change.multiplier
      }
    }
    // One channel more than the latent: the log-variance, which all channels share.
    try convolution(encoder / "conv_out", channels, latentChannels + 1)

    let decoder = w / "decoder"
    channels = decoderChannels
    for change in decoderChanges { channels *= change.multiplier }
    try convolution(decoder / "conv_in", latentChannels, channels)
    for (index, block) in decoderBlocks.reversed().enumerated() {
      let place = decoder / "up_blocks" / index
      switch block {
      case .residual(let layers): try residual(place, channels, layers: layers)
      case .resampling(let change):
        try convolution(
          place / "conv", channels, channels * change.factor / change.multiplier)
        channels /= change.multiplier
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

  package var config: String {
    let encoder = encoderBlocks.map { block in
      switch block {
      case .residual(let layers): #"["res_x", {"num_layers": \#(layers)}]"#
      case .resampling(let change):
        #"["\#(change.name)_res", {"multiplier": \#(change.multiplier)}]"#
      }
    }
    let decoder = decoderBlocks.map { block in
      switch (block, generation == .ltx2) {
      case (.residual(let layers), true):
        #"["res_x", {"num_layers": \#(layers), "inject_noise": false}]"#
      case (.residual(let layers), false): #"["res_x", {"num_layers": \#(layers)}]"#
      case (.resampling(let change), true):
        #"["\#(change.name)", {"residual": true, "multiplier": \#(change.multiplier)}]"#
      case (.resampling(let change), false):
        #"["\#(change.name)", {"multiplier": \#(change.multiplier)}]"#
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
