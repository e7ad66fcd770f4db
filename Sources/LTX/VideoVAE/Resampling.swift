// B batch, F H W frames, rows, columns, C channels, (p, q, r) a stride in time, height, width.
// Features are [B, F, H, W, C]; a cell that is moved into channels has them in the order (c p q r).

import NN
import Torch

/// `compress_*_res` of the encoder: a convolution and a group mean of channels, both with space and
/// time moved into channels (ltx-core, `video_vae/sampling.py`).
struct SpaceToDepth: VideoVAEBlock {
  private let convolution: CausalConvolution
  private let stride: CompressionFactors
  private let multiplier: Int

  init(
    _ w: Weights, inputs: Int, stride: CompressionFactors, multiplier: Int, layout: FeatureLayout
  ) throws {
    let cells = stride.time * stride.height * stride.width
    convolution = try layout.convolution(
      w / "conv", inputs: inputs, outputs: inputs * multiplier / cells)
    self.stride = stride
    self.multiplier = multiplier
  }

  func callAsFunction(_ x: Tensor, _ conditions: DecodingConditions) throws -> Tensor {
    // Halving time needs an even number of frames, so the first one is doubled. It is added
    // together with the convolution's own padding.
    let extra = stride.time - 1
    let padded = try convolution.padded(x, extra: extra)
    let doubled = extra == 0 ? x : try convolution.interior(padded).narrow(1, 2, x.size(1) + extra)
    let skip = try groupMean(cells(doubled, stride))
    let y = try merged(cells(convolution.convolve(padded), stride))
    try y.add_(skip)
    return y
  }

  /// The mean of each group of neighboring channels in the order (c p q r). A group is a part of
  /// one cell, so this is a mean over the last of the cell's axes.
  private func groupMean(_ x: Tensor) throws -> Tensor {
    var groups = multiplier
    var averaged: [Int] = []
    for axis in [2, 4, 6] {
      let size = x.size(axis)
      if groups > 1 { groups /= size } else if size > 1 { averaged.append(axis) }
    }
    return try merged(averaged.isEmpty ? x : x.mean(averaged, keepdim: true))
  }
}

/// [B, F, H, W, C] to [B, F/p, p, H/q, q, W/r, r, C]
private func cells(_ x: Tensor, _ stride: CompressionFactors) throws -> Tensor {
  try x.unflatten(3, [-1, stride.width]).unflatten(2, [-1, stride.height]).unflatten(
    1, [-1, stride.time])
}

/// [B, F, p, H, q, W, r, C] to [B, F, H, W, C * p * q * r]
private func merged(_ x: Tensor) throws -> Tensor {
  try x.permute([0, 1, 3, 5, 7, 2, 4, 6]).flatten(from: 4)
}

/// `compress_*` of the decoder: a convolution whose channels are moved into space and time
/// (ltx-core, `video_vae/sampling.py`).
struct DepthToSpace: VideoVAEBlock {
  private let convolution: CausalConvolution
  private let stride: CompressionFactors
  private let isResidual: Bool

  init(
    _ w: Weights, inputs: Int, stride: CompressionFactors, multiplier: Int, isResidual: Bool,
    layout: FeatureLayout
  ) throws {
    let cells = stride.time * stride.height * stride.width
    convolution = try layout.convolution(
      w / "conv", inputs: inputs, outputs: cells * inputs / multiplier)
    self.stride = stride
    self.isResidual = isResidual
  }

  func callAsFunction(_ x: Tensor, _ conditions: DecodingConditions) throws -> Tensor {
    let y = try unfold(convolution(x))
    guard isResidual else { return y }
    // The skip connection has fewer channels; each group of y's uses all of them.
    let skip = try unfold(x)
    try y.unflatten(-1, [-1, skip.size(-1)]).add_(skip.unsqueeze(-2))
    return y
  }

  /// [B, F, H, W, C * p * q * r] to [B, F * p, H * q, W * r, C], without the first frame if p is 2:
  /// the first latent frame stands for one frame, not two.
  private func unfold(_ x: Tensor) throws -> Tensor {
    let shape = x.shape
    let (p, q, r) = (stride.time, stride.height, stride.width)
    let y = try x.unflatten(-1, [-1, p, q, r]).permute([0, 1, 5, 2, 6, 3, 7, 4])
      .reshape([shape[0], shape[1] * p, shape[2] * q, shape[3] * r, shape[4] / (p * q * r)])
    return p == 1 ? y : try y.narrow(1, p - 1, shape[1] * p - (p - 1))
  }
}

/// A strided convolution: `compress_*` of older encoders.
struct StridedConvolution: VideoVAEBlock {
  private let convolution: CausalConvolution

  init(_ w: Weights, inputs: Int, outputs: Int, stride: CompressionFactors, layout: FeatureLayout)
    throws
  {
    convolution = try layout.convolution(w, inputs: inputs, outputs: outputs, stride: stride)
  }

  func callAsFunction(_ x: Tensor, _ conditions: DecodingConditions) throws -> Tensor {
    try convolution(x)
  }
}

/// Pixels and the patches that the first and last layers work on (ltx-core, `video_vae/ops.py`).
enum PixelPatches {
  /// [B, c, F, H * s, W * s] to [B, F, H, W, c * s * s], the channels in the order (c, column,
  /// row).
  static func fold(_ pixels: Tensor, size: Int) throws -> Tensor {
    try pixels.unflatten(4, [-1, size]).unflatten(3, [-1, size]).permute([0, 2, 3, 5, 1, 6, 4])
      .flatten(
        from: 4
      )
      .contiguous()
  }

  /// The inverse of `fold`.
  static func unfold(_ patches: Tensor, size: Int) throws -> Tensor {
    try patches.unflatten(-1, [-1, size, size]).permute([0, 4, 1, 2, 6, 3, 5]).flatten(from: 5)
      .flatten(
        from: 3, through: 4
      )
      .contiguous()
  }
}

/// The mean and standard deviation of each latent channel, by which latents are normalized.
public struct ChannelStatistics: Sendable {
  /// [C]
  public let mean: Tensor
  public let std: Tensor

  /// - Parameters:
  ///   - mean, std: [C]
  public init(mean: Tensor, std: Tensor) {
    self.mean = mean
    self.std = std
  }

  /// - Parameter w: the scope of the VAE.
  public init(_ w: Weights, channels: Int) throws {
    let w = w / "per_channel_statistics"
    mean = try w.tensor("mean-of-means", shape: [channels])
    std = try w.tensor("std-of-means", shape: [channels])
  }

  /// - Parameter x: [..., C]
  func normalize(_ x: Tensor) throws -> Tensor { try (x - mean.to(x.dtype)) / std.to(x.dtype) }

  /// - Parameter x: [..., C]
  func restore(_ x: Tensor) throws -> Tensor { try x * std.to(x.dtype) + mean.to(x.dtype) }
}
