// B batch, C latent channels, F H W latent frames, rows, columns, (t, h, w) the compression.

import NN
import Support
import Torch

/// Encodes pixels to latents: patches, stages that shrink space and time, and the normalized mean
/// of the latent (ltx-core, `video_vae/video_vae.py`).
public struct VideoEncoder: Sendable {
  public let configuration: VideoVAEConfiguration.Encoder
  public let statistics: ChannelStatistics
  /// The number of pixels and frames of one latent cell.
  public let compression: CompressionFactors
  private let convolutionIn: CausalConvolution
  private let blocks: [any VideoVAEBlock]
  private let convolutionOut: CausalConvolution
  private let device: Device

  /// - Parameter w: The scope of the VAE, which holds `encoder` and `per_channel_statistics`.
  /// - Throws: `WeightError` if the checkpoint doesn't fit the configuration.
  public init(_ w: Weights, configuration: VideoVAEConfiguration.Encoder) throws {
    self.configuration = configuration
    compression = configuration.compression
    statistics = try ChannelStatistics(w, channels: configuration.latentChannels)
    device = statistics.mean.device
    let w = w / "encoder"
    let layout = FeatureLayout(padding: configuration.padding, isCausal: true)
    var width = configuration.latentChannels
    convolutionIn = try layout.convolution(
      w / "conv_in",
      inputs: configuration.pixelChannels * configuration.patchSize * configuration.patchSize,
      outputs: width)
    blocks = try configuration.blocks.enumerated().map { index, block in
      let w = w / "down_blocks" / index
      let inputs = width
      switch block {
      case .residual(let layers, _):
        return try ResidualStage(w, layers: layers, channels: width, layout: layout)
      case .widening(let multiplier, _):
        width *= multiplier
        return try ResidualBlock(w, inputs: inputs, outputs: width, layout: layout)
      case .stridedConvolution(let stride, let multiplier):
        width *= multiplier
        return try StridedConvolution(
          w, inputs: inputs, outputs: width, stride: stride, layout: layout)
      case .shuffle(let stride, let multiplier, _):
        width *= multiplier
        return try SpaceToDepth(
          w, inputs: inputs, stride: stride, multiplier: multiplier, layout: layout)
      case .attention:
        return try FrameAttention(w, channels: width)
      }
    }
    // The channels of the variance are not computed.
    convolutionOut = try layout.convolution(
      w / "conv_out", inputs: width,
      outputs: configuration.latentChannels + configuration.varianceChannels,
      keeping: configuration.latentChannels)
    try w.requireAllUsed()
  }

  /// - Parameter pixels: [B, 3, frames, H * h, W * w] in -1 ... 1. Frames beyond `k * t + 1` are
  ///   cut off at the end.
  /// - Returns: The normalized latent [B, C, F, H, W].
  /// - Throws: `Issue` for pixels of another shape or size.
  public func callAsFunction(_ pixels: Tensor) throws -> Tensor { try encodeWhole(fitted(pixels)) }

  /// Encodes in tiles, for videos that are too long or large to be encoded at once.
  ///
  /// Only one tile at a time is moved to the model's device.
  public func encode(_ pixels: Tensor, tiling: Tiling?) throws -> Tensor {
    let pixels = try fitted(pixels)
    guard let tiling else { return try encodeWhole(pixels) }
    try tiling.requireOverlapForEncoding()
    let shape = pixels.shape
    let (frames, rows, columns) = (
      compression.latentFrames(shape[2]), shape[3] / compression.height,
      shape[4] / compression.width
    )
    let grid = try TileGrid(tiling, latent: (frames, rows, columns), compression, .latent)
    guard grid.frames.count * grid.rows.count * grid.columns.count > 1 else {
      return try encodeWhole(pixels)
    }
    let latent = try Tensor.zeros(
      [shape[0], configuration.latentChannels, frames, rows, columns], dtype: convolutionIn.dtype,
      device: device)
    for t in grid.frames {
      for h in grid.rows {
        for w in grid.columns {
          let tile = try encodeWhole(
            pixels.narrow(2, t.pixels).narrow(3, h.pixels).narrow(4, w.pixels))
          try tile.applyWeights(t, h, w)
          try latent.narrow(2, t.latent).narrow(3, h.latent).narrow(4, w.latent).add_(tile)
        }
      }
    }
    return latent
  }

  private func encodeWhole(_ pixels: Tensor) throws -> Tensor {
    let shape = pixels.shape
    let (rows, columns) = (shape[3] / compression.height, shape[4] / compression.width)
    guard configuration.padding != .reflect || min(rows, columns) > 1 else {
      throw compression.reflectionIssue(rows: rows, columns: columns)
    }
    var x = try convolutionIn(
      PixelPatches.fold(pixels.to(device, convolutionIn.dtype), size: configuration.patchSize))
    for block in blocks { x = try block(x, .none) }
    let means = try convolutionOut(pixelNorm(x).silu())
    return try statistics.normalize(means).permute([0, 4, 1, 2, 3]).contiguous()
  }

  /// The pixels without the trailing frames that don't fill a latent frame.
  private func fitted(_ pixels: Tensor) throws -> Tensor {
    let shape = pixels.shape
    guard shape.count == 5, shape[1] == configuration.pixelChannels, shape.allSatisfy({ $0 > 0 })
    else {
      throw Issue.shape(
        "pixels", shape, expected: "[batch, \(configuration.pixelChannels), frames, height, width]")
    }
    guard shape[3].isMultiple(of: compression.height), shape[4].isMultiple(of: compression.width)
    else {
      throw compression.sizeIssue(height: shape[3], width: shape[4])
    }
    return try pixels.narrow(2, 0, (shape[2] - 1) / compression.time * compression.time + 1)
  }
}
