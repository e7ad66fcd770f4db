import NN
import Support

/// The shape of a video VAE, from `config.vae` of a checkpoint (ltx-core,
/// `video_vae/model_configurator.py`).
///
/// Compression and channel counts follow from the lists of blocks.
public enum VideoVAEConfiguration {
  /// The values that a convolution uses outside of an image.
  public enum SpatialPadding: String, Sendable, CaseIterable {
    case zeros, reflect, replicate, circular
  }

  /// One entry of `encoder_blocks` or `decoder_blocks`.
  public enum Block: Sendable, Equatable {
    /// `res_x`: residual blocks of one width.
    case residual(layers: Int, injectsNoise: Bool)
    /// `res_x_y`: one residual block that changes the width by `multiplier`.
    case widening(multiplier: Int, injectsNoise: Bool)
    /// `compress_time`, `compress_space`, `compress_all` and `compress_all_x_y` of the encoder: a
    /// strided convolution.
    case stridedConvolution(stride: CompressionFactors, multiplier: Int)
    /// `compress_*_res` of the encoder (space to depth) and `compress_*` of the decoder (depth to
    /// space).
    case shuffle(stride: CompressionFactors, multiplier: Int, isResidual: Bool)
    /// `attn`: attention within each frame.
    case attention

    var stride: CompressionFactors {
      switch self {
      case .stridedConvolution(let stride, _), .shuffle(let stride, _, _): stride
      case .residual, .widening, .attention: CompressionFactors(time: 1, height: 1, width: 1)
      }
    }
  }

  public struct Encoder: Sendable, Equatable {
    public var pixelChannels: Int
    public var latentChannels: Int
    public var patchSize: Int
    public var padding: SpatialPadding
    /// In the order of execution.
    public var blocks: [Block]
    /// The channels of the last convolution's output besides the means; they describe a variance
    /// that nothing uses.
    public var varianceChannels: Int

    public var compression: CompressionFactors { total(blocks, patchSize) }
  }

  /// The decoder of the configuration: convolutional, or by diffusion.
  public enum Decoder: Sendable, Equatable {
    case convolutional(ConvolutionalDecoder)
    case diffusion(DiffusionDecoder)

    public var latentChannels: Int {
      switch self {
      case .convolutional(let decoder): decoder.latentChannels
      case .diffusion(let decoder): decoder.latentChannels
      }
    }

    /// The number of pixels and frames of one latent cell.
    public var compression: CompressionFactors {
      switch self {
      case .convolutional(let decoder): decoder.compression
      case .diffusion(let decoder): decoder.compression
      }
    }

    /// The least number of rows and of columns of a latent: padding by reflection needs two.
    public var minCells: Int {
      if case .convolutional(let decoder) = self, decoder.padding == .reflect { 2 } else { 1 }
    }
  }

  public struct ConvolutionalDecoder: Sendable, Equatable {
    public var pixelChannels: Int
    public var latentChannels: Int
    public var patchSize: Int
    public var padding: SpatialPadding
    /// In the order of execution: reversed from the checkpoint's.
    public var blocks: [Block]
    /// The channels of the first features.
    public var bottleneckChannels: Int
    /// Whether a frame sees no later ones.
    public var isCausal: Bool
    public var hasTimestepConditioning: Bool

    public var compression: CompressionFactors { total(blocks, patchSize) }
  }

  private static func total(_ blocks: [Block], _ patch: Int) -> CompressionFactors {
    blocks.reduce(into: CompressionFactors(time: 1, height: patch, width: patch)) { total, block in
      total.time *= block.stride.time
      total.height *= block.stride.height
      total.width *= block.stride.width
    }
  }
}

extension VideoVAEConfiguration.Encoder {
  /// - Parameter config: The complete `config` of the checkpoint. An encoder described under
  ///   `vae.encoder`, as in `CausalDiffusionVAE` files, is read from there.
  /// - Throws: `Issue` for a value that is missing, of the wrong type, or not supported.
  public init(_ config: Configuration) throws {
    let vae = try config.object("vae")
    let isNested = vae.has("encoder")
    let c = isNested ? try vae.object("encoder") : vae
    try requireSupported(c, dimensions: try vae.int("dims", default: 3, in: 1...3))
    pixelChannels = try c.positive("in_channels", default: 3)
    let latent = try vae.positive("latent_channels", default: 128)
    // In a flat configuration `out_channels` is the decoder's: red, green, blue.
    latentChannels = isNested ? try c.positive("out_channels", default: latent) : latent
    patchSize = try c.positive("patch_size", default: 4, upTo: maxCompression)
    padding =
      try c.has("spatial_padding_mode")
      ? c.choice("spatial_padding_mode", default: .zeros)
      : vae.choice("encoder_spatial_padding_mode", default: .zeros)
    let variance = try c.string("latent_log_var", default: "uniform")
    switch variance {
    case "per_channel": varianceChannels = latentChannels
    case "uniform", "constant": varianceChannels = 1
    default:
      throw c.error(
        "latent_log_var", "is \"\(variance)\"; only per_channel, uniform and constant are supported"
      )
    }
    let key = isNested && c.has("blocks") ? "blocks" : "encoder_blocks"
    let entries = try BlockSettings.list(c, key)
    blocks = try entries.map { try $0.encoderBlock() }
    try requireBounded(blocks, patchSize, c, key)
    var width = latentChannels
    for (block, entry) in zip(blocks, entries) {
      switch block {
      case .widening(let multiplier, _), .stridedConvolution(_, let multiplier):
        width = try entry.widened(width, by: multiplier)
      case .shuffle(let stride, let multiplier, _):
        let cells = stride.time * stride.height * stride.width
        guard cells.isMultiple(of: multiplier) else {
          throw entry.error(
            "multiplier",
            "is \(multiplier), which does not divide the \(cells) cells that are merged")
        }
        width = try entry.widened(width, by: multiplier)
        guard width.isMultiple(of: cells) else {
          throw entry.error(
            "multiplier", "gives \(width) channels, which \(cells) merged cells can't share evenly")
        }
      case .residual, .attention: break
      }
    }
  }
}

extension VideoVAEConfiguration.Decoder {
  private static let convolutionalClass = "CausalVideoAutoencoder"

  /// A VAE whose `_class_name` is present and other than `CausalVideoAutoencoder` decodes by
  /// diffusion.
  ///
  /// - Parameter config: The complete `config` of the checkpoint.
  /// - Throws: `Issue` for a value that is missing, of the wrong type, or not supported.
  public init(_ config: Configuration) throws {
    let c = try config.object("vae")
    let name = try c.string("_class_name", default: Self.convolutionalClass)
    self =
      name == Self.convolutionalClass
      ? .convolutional(try VideoVAEConfiguration.ConvolutionalDecoder(config))
      : .diffusion(try VideoVAEConfiguration.DiffusionDecoder(config))
  }
}

extension VideoVAEConfiguration.ConvolutionalDecoder {
  /// - Parameter config: The complete `config` of the checkpoint.
  /// - Throws: `Issue` for a value that is missing, of the wrong type, or not supported.
  public init(_ config: Configuration) throws {
    let c = try config.object("vae")
    try requireSupported(c, dimensions: 3)
    pixelChannels = try c.positive("out_channels", default: 3)
    latentChannels = try c.positive("latent_channels", default: 128)
    patchSize = try c.positive("patch_size", default: 4, upTo: maxCompression)
    padding = try c.choice("spatial_padding_mode", default: .reflect)
    isCausal = try c.bool("causal_decoder", default: false)
    hasTimestepConditioning = try c.bool("timestep_conditioning", default: true)
    let entries = try BlockSettings.list(c, "decoder_blocks")
    blocks = try entries.map { try $0.decoderBlock() }.reversed()
    try requireBounded(blocks, patchSize, c, "decoder_blocks")
    bottleneckChannels = try c.positive("decoder_base_channels", default: 128)
    for (block, entry) in zip(blocks, entries.reversed()) {
      switch block {
      case .widening(let multiplier, _), .shuffle(_, let multiplier, _):
        bottleneckChannels = try entry.widened(bottleneckChannels, by: multiplier)
      case .residual, .stridedConvolution, .attention: break
      }
    }
    var width = bottleneckChannels
    for (block, entry) in zip(blocks, entries.reversed()) {
      switch block {
      case .widening(let multiplier, let injectsNoise):
        guard multiplier == 1 || !injectsNoise else {
          throw entry.error(
            "inject_noise", "is true in a block that changes the width, which has no meaning")
        }
        width /= multiplier
      case .shuffle(let stride, let multiplier, let isResidual):
        let cells = stride.time * stride.height * stride.width
        guard !isResidual || (width.isMultiple(of: cells) && cells.isMultiple(of: multiplier))
        else {
          throw entry.error(
            "residual",
            "needs a width (\(width)) divisible by \(cells) and a multiplier that divides it")
        }
        width /= multiplier
      case .residual, .stridedConvolution, .attention: break
      }
    }
  }
}

/// The max number of pixels along an axis, or frames, per latent cell; published models have 32 and
/// 8.
private let maxCompression = 4096

/// Checks that the product of the blocks' strides stays in the range of sizes.
private func requireBounded(
  _ blocks: [VideoVAEConfiguration.Block], _ patch: Int, _ c: Configuration, _ key: String
) throws {
  var (time, height, width) = (1, patch, patch)
  for block in blocks {
    time *= block.stride.time
    height *= block.stride.height
    width *= block.stride.width
    guard max(time, height, width) <= maxCompression else {
      throw c.error(
        key, "compresses by more than \(maxCompression) along an axis; the configuration is damaged"
      )
    }
  }
}

/// Variants that no published checkpoint uses and that aren't implemented here.
private func requireSupported(_ c: Configuration, dimensions: Int) throws {
  let dimensions = try c.int("dims", default: dimensions, in: 1...3)
  guard dimensions == 3 else { throw c.error("dims", "is \(dimensions); only 3 is supported") }
  let norm = try c.string("norm_layer", default: "pixel_norm")
  guard norm == "pixel_norm" else {
    throw c.error("norm_layer", "is \"\(norm)\"; only pixel_norm is supported")
  }
}

/// An entry of a list of blocks: `["res_x", {"num_layers": 4}]`, or `["res_x", 4]`.
private struct BlockSettings {
  let c: Configuration
  /// Its key path, `encoder_blocks[3]`.
  let key: String
  let name: String
  let values: JSONObject

  static func list(_ c: Configuration, _ key: String) throws -> [BlockSettings] {
    try c.array(key, upTo: Configuration.maxLayers).enumerated().map { index, entry in
      let key = "\(key)[\(index)]"
      guard case .array(let pair) = entry, pair.count == 2, case .string(let name) = pair[0] else {
        throw c.error(key, "must be a pair: the name of a block and its settings")
      }
      switch pair[1] {
      case .object(let values): return BlockSettings(c: c, key: key, name: name, values: values)
      case .number:
        return BlockSettings(c: c, key: key, name: name, values: ["num_layers": pair[1]])
      default: throw c.error(key, "must have settings that are a number of layers or an object")
      }
    }
  }

  func encoderBlock() throws -> VideoVAEConfiguration.Block {
    switch name {
    case "res_x":
      .residual(
        layers: try positive("num_layers", upTo: Configuration.maxLayers), injectsNoise: false)
    case "res_x_y":
      .widening(multiplier: try positive("multiplier", default: 2), injectsNoise: false)
    case "compress_time": .stridedConvolution(stride: Self.time, multiplier: 1)
    case "compress_space": .stridedConvolution(stride: Self.space, multiplier: 1)
    case "compress_all": .stridedConvolution(stride: Self.all, multiplier: 1)
    case "compress_all_x_y":
      .stridedConvolution(stride: Self.all, multiplier: try positive("multiplier", default: 2))
    case "compress_time_res":
      .shuffle(
        stride: Self.time, multiplier: try positive("multiplier", default: 2), isResidual: true)
    case "compress_space_res":
      .shuffle(
        stride: Self.space, multiplier: try positive("multiplier", default: 2), isResidual: true)
    case "compress_all_res":
      .shuffle(
        stride: Self.all, multiplier: try positive("multiplier", default: 2), isResidual: true)
    case "attn": .attention
    default: throw c.error(key, "is a \"\(name)\", which is not a kind of encoder block")
    }
  }

  func decoderBlock() throws -> VideoVAEConfiguration.Block {
    switch name {
    case "res_x":
      .residual(
        layers: try positive("num_layers", upTo: Configuration.maxLayers),
        injectsNoise: try flag("inject_noise"))
    case "res_x_y":
      .widening(
        multiplier: try positive("multiplier", default: 2), injectsNoise: try flag("inject_noise"))
    case "compress_time":
      .shuffle(
        stride: Self.time, multiplier: try positive("multiplier", default: 1), isResidual: false)
    case "compress_space":
      .shuffle(
        stride: Self.space, multiplier: try positive("multiplier", default: 1), isResidual: false)
    case "compress_all":
      .shuffle(
        stride: Self.all, multiplier: try positive("multiplier", default: 1),
        isResidual: try flag("residual")
      )
    case "attn": .attention
    default: throw c.error(key, "is a \"\(name)\", which is not a kind of decoder block")
    }
  }

  func error(_ setting: String, _ problem: String) -> Issue {
    c.error("\(key).\(setting)", problem)
  }

  private static let time = CompressionFactors(time: 2, height: 1, width: 1)
  private static let space = CompressionFactors(time: 1, height: 2, width: 2)
  private static let all = CompressionFactors(time: 2, height: 2, width: 2)

  /// A number of channels times a multiplier.
  func widened(_ channels: Int, by multiplier: Int) throws -> Int {
    let (product, overflow) = channels.multipliedReportingOverflow(by: multiplier)
    guard !overflow, product <= Configuration.maxSize else {
      throw error(
        "multiplier",
        "makes \(multiplier) times \(channels) channels, expected at most \(Configuration.maxSize)")
    }
    return product
  }

  private func positive(
    _ setting: String, default fallback: Int? = nil, upTo limit: Int = 4096
  ) throws -> Int {
    guard let value = values[setting], value != .null else {
      guard let fallback else { throw error(setting, "is missing") }
      return fallback
    }
    guard let integer = value.int else {
      throw error(setting, "must be an integer between 1 and \(limit)")
    }
    guard (1...limit).contains(integer) else {
      throw error(setting, "must be between 1 and \(limit) (got \(integer))")
    }
    return integer
  }

  private func flag(_ setting: String) throws -> Bool {
    guard let value = values[setting], value != .null else { return false }
    guard case .bool(let flag) = value else { throw error(setting, "must be true or false") }
    return flag
  }
}
