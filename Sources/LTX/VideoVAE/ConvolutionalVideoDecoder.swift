// B batch, C latent channels, F H W latent frames, rows, columns, (t, h, w) the compression.

import NN
import Support
import Torch

/// Decodes latents to pixels by convolutions: stages that expand space and time, and patches
/// (ltx-core, `video_vae/conv_video_decoder.py`).
public struct ConvolutionalVideoDecoder: Sendable {
  public let configuration: VideoVAEConfiguration.ConvolutionalDecoder
  public let statistics: ChannelStatistics
  /// The number of pixels and frames of one latent cell.
  public let compression: CompressionFactors
  private let convolutionIn: CausalConvolution
  private let blocks: [any VideoVAEBlock]
  private let convolutionOut: CausalConvolution
  private let conditioning: TimestepConditioning?
  private let device: Device

  /// The default timestep of a timestep-conditioned decoder.
  public static let usualTimestep = 0.05
  /// The share of noise in the latents of a timestep-conditioned decoder.
  private static let noiseShare = 0.025

  private struct TimestepConditioning: Sendable {
    /// From 0 ... 1 to 0 ... 1000.
    let scale: Double
    let modulation: TimestepModulation
    /// [2, channels]: shift and scale.
    let table: Tensor
  }

  /// - Parameter w: The scope of the VAE, which holds `decoder` and `per_channel_statistics`.
  /// - Throws: `WeightError` if the checkpoint doesn't fit the configuration.
  public init(_ w: Weights, configuration: VideoVAEConfiguration.ConvolutionalDecoder) throws {
    self.configuration = configuration
    compression = configuration.compression
    statistics = try ChannelStatistics(w, channels: configuration.latentChannels)
    device = statistics.mean.device
    let w = w / "decoder"
    let layout = FeatureLayout(padding: configuration.padding, isCausal: configuration.isCausal)
    let hasTimestep = configuration.hasTimestepConditioning
    var width = configuration.bottleneckChannels
    convolutionIn = try layout.convolution(
      w / "conv_in", inputs: configuration.latentChannels, outputs: width)
    blocks = try configuration.blocks.enumerated().map { index, block in
      let w = w / "up_blocks" / index
      let inputs = width
      switch block {
      case .residual(let layers, let injectsNoise):
        return try ResidualStage(
          w, layers: layers, channels: width, layout: layout, injectsNoise: injectsNoise,
          hasTimestep: hasTimestep)
      case .widening(let multiplier, let injectsNoise):
        width /= multiplier
        return try ResidualBlock(
          w, inputs: inputs, outputs: width, layout: layout, injectsNoise: injectsNoise)
      case .shuffle(let stride, let multiplier, let isResidual):
        width /= multiplier
        return try DepthToSpace(
          w, inputs: inputs, stride: stride, multiplier: multiplier, isResidual: isResidual,
          layout: layout)
      case .stridedConvolution(let stride, let multiplier):
        width *= multiplier
        return try StridedConvolution(
          w, inputs: inputs, outputs: width, stride: stride, layout: layout)
      case .attention:
        return try FrameAttention(w, channels: width)
      }
    }
    convolutionOut = try layout.convolution(
      w / "conv_out", inputs: width,
      outputs: configuration.pixelChannels * configuration.patchSize * configuration.patchSize)
    conditioning =
      hasTimestep
      ? TimestepConditioning(
        scale: try w.tensor("timestep_scale_multiplier", shape: []).item(),
        modulation: try TimestepModulation(w / "last_time_embedder", outputs: 2 * width),
        table: try w.tensor("last_scale_shift_table", shape: [2, width])) : nil
    try w.requireAllUsed()
  }

  /// Whether decoding needs random noise.
  public var needsNoise: Bool {
    configuration.hasTimestepConditioning
      || configuration.blocks.contains {
        switch $0 {
        case .residual(_, let injectsNoise), .widening(_, let injectsNoise): injectsNoise
        case .stridedConvolution, .shuffle, .attention: false
        }
      }
  }

  /// - Parameters:
  ///   - latent: [B, C, F, H, W], normalized as the encoder returns it.
  ///   - tiling: The tiling for videos that are too long or large to be decoded at once.
  ///   - timestep: The timestep for a timestep-conditioned decoder.
  ///   - noise: The noise for decoders that add some (`needsNoise`); drawn separately for each
  ///     tile.
  /// - Returns: Pixels [B, 3, (F - 1) * t + 1, H * h, W * w], about -1 ... 1 but not clamped, in
  ///   the latent's dtype.
  /// - Throws: `Issue` for a latent of another shape, one that is too small, or missing noise.
  public func decode(
    _ latent: Tensor, tiling: Tiling? = nil, timestep: Double = usualTimestep,
    noise: NoiseSource? = nil
  ) throws -> Tensor {
    guard let tiling else { return try decodeWhole(checked(latent), timestep, noise) }
    let shape = try checked(latent).shape
    let pixels = try Tensor.empty(
      [
        shape[0], configuration.pixelChannels, (shape[2] - 1) * compression.time + 1,
        shape[3] * compression.height,
        shape[4] * compression.width,
      ], dtype: latent.dtype, device: device)
    var done = 0
    try decode(latent, tiling: tiling, timestep: timestep, noise: noise) { part in
      let count = part.size(2)
      try pixels.narrow(2, done, count).copy_(part)
      done += count
    }
    return pixels
  }

  /// Decodes part by part, so that a long video is never in memory as a whole.
  ///
  /// - Parameter receive: Called with consecutive frames [B, 3, frames, H * h, W * w].
  public func decode(
    _ latent: Tensor, tiling: Tiling, timestep: Double = usualTimestep, noise: NoiseSource? = nil,
    receive: (Tensor) throws -> Void
  ) throws {
    let shape = try checked(latent).shape
    let grid = try TileGrid(tiling, latent: (shape[2], shape[3], shape[4]), compression, .pixels)
    try grid.decode(
      (
        shape[0], configuration.pixelChannels, shape[3] * compression.height,
        shape[4] * compression.width
      ), dtype: latent.dtype, device: device,
      tile: { t, h, w in
        try decodeWhole(
          latent.narrow(2, t.latent).narrow(3, h.latent).narrow(4, w.latent), timestep, noise)
      }, receive: receive)
  }

  private func decodeWhole(_ latent: Tensor, _ timestep: Double, _ noise: NoiseSource?) throws
    -> Tensor
  {
    let shape = latent.shape
    guard configuration.padding != .reflect || min(shape[3], shape[4]) > 1 else {
      throw compression.reflectionIssue(rows: shape[3], columns: shape[4])
    }
    var x = try latent.to(device, convolutionIn.dtype)
    var conditions = DecodingConditions(noise: noise)
    if let conditioning {
      guard let noise else { throw VideoDecoder.noiseIssue }
      x = try noise(shape).to(device, x.dtype) * Self.noiseShare + x * (1 - Self.noiseShare)
      conditions.timestep = try Tensor.full(
        [shape[0]], Scalar(timestep * conditioning.scale), dtype: x.dtype, device: device)
    }
    x = try convolutionIn(statistics.restore(x.permute([0, 2, 3, 4, 1])).contiguous())
    for block in blocks { x = try block(x, conditions) }
    x = try pixelNorm(x)
    if let conditioning, let timestep = conditions.timestep {
      let rows = try TimestepModulation.rows(conditioning.table, conditioning.modulation(timestep))
      x = try x.modulated(scale: rows[1], shift: rows[0])
    }
    x = try convolutionOut(x.silu())
    return try PixelPatches.unfold(x, size: configuration.patchSize).to(latent.dtype)
  }

  private func checked(_ latent: Tensor) throws -> Tensor {
    let shape = latent.shape
    guard shape.count == 5, shape[1] == configuration.latentChannels, shape.allSatisfy({ $0 > 0 })
    else {
      throw Issue.shape(
        "latent", shape,
        expected: "[batch, \(configuration.latentChannels), frames, rows, columns]")
    }
    return latent
  }
}
