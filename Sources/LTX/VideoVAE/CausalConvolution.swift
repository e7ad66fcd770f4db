// B batch, F H W frames, rows, columns, C channels. Features are stored channels last, [B, F, H, W,
// C]: the layout that the convolutions compute in anyway, and one in which a norm over the channels
// reads memory in order.

import NN
import Torch

/// A 3 x 3 x 3 convolution padded with copies of the first frame before it and of the last frame
/// after it (ltx-core, `video_vae/convolution.py`).
///
/// A causal convolution sees the two frames before its own, a symmetric one sees one frame on
/// either side.
public struct CausalConvolution: Sendable {
  /// [outputs, C, 3, 3, 3]
  private let weight: Tensor
  private let bias: Tensor
  private let padding: VideoVAEConfiguration.SpatialPadding
  private let isCausal: Bool
  private let stride: CompressionFactors

  /// - Parameters:
  ///   - outputs: The number of output channels in the checkpoint.
  ///   - keeping: The number of them that are computed, from the first; nil for all.
  public init(
    _ w: Weights, inputs: Int, outputs: Int, keeping: Int? = nil,
    padding: VideoVAEConfiguration.SpatialPadding,
    isCausal: Bool = true,
    stride: CompressionFactors = CompressionFactors(time: 1, height: 1, width: 1)
  ) throws {
    let w = w / "conv"
    let stored = try w.tensor("weight", shape: [outputs, inputs, 3, 3, 3]).slice(0, to: keeping)
    // On the CPU the kernel packs weights in each call, and is fastest with the file's own order.
    weight =
      stored.device == .cpu
      ? stored : try stored.permute([0, 2, 3, 4, 1]).contiguous().permute([0, 4, 1, 2, 3])
    bias = try w.tensor("bias", shape: [outputs]).slice(0, to: keeping)
    self.padding = padding
    self.isCausal = isCausal
    self.stride = stride
  }

  public var dtype: DType { weight.dtype }

  /// - Parameter x: [B, F, H, W, C]
  /// - Returns: [B, F', H', W', outputs]; F' = 1 + (F - 1) / stride.
  public func callAsFunction(_ x: Tensor) throws -> Tensor { try convolve(padded(x)) }

  /// Applies the convolution to a result of `padded`.
  func convolve(_ padded: Tensor) throws -> Tensor {
    let border = padding == .zeros ? 1 : 0
    return try padded.permute([0, 4, 1, 2, 3]).conv3d(
      weight, bias, stride: [stride.time, stride.height, stride.width],
      padding: [0, border, border]
    ).permute([0, 2, 3, 4, 1]).contiguous()
  }

  /// The features with the padding that the convolution needs. Zeros around an image are left to
  /// the kernel.
  ///
  /// - Parameter extra: Additional copies of the first frame.
  /// - Returns: [B, F + 2 + extra, H, W, C], or two more rows and columns if the padding isn't
  ///   zeros.
  func padded(_ x: Tensor, extra: Int = 0) throws -> Tensor {
    let before = (isCausal ? 2 : 1) + extra
    let after = isCausal ? 0 : 1
    let shape = x.shape
    let (frames, height, width) = (shape[1], shape[2], shape[3])
    if padding == .zeros {
      let first = try x.narrow(1, 0, 1)
      let last = try x.narrow(1, frames - 1, 1)
      return try Tensor.cat(
        [Tensor](repeating: first, count: before) + [x] + [Tensor](repeating: last, count: after), 1
      )
    }
    // One pass over the features; the border is copied from what is already in place.
    let total = before + frames + after
    let y = try Tensor.empty(
      [shape[0], total, height + 2, width + 2, shape[4]], dtype: x.dtype, device: x.device)
    try interior(y).narrow(1, before, frames).copy_(x)
    let rows = try y.narrow(1, before, frames).narrow(2, 1, height)
    try fillBorder(rows, 3, width)
    try fillBorder(y.narrow(1, before, frames), 2, height)
    for frame in 0..<before { try y.narrow(1, frame, 1).copy_(y.narrow(1, before, 1)) }
    for frame in (total - after)..<total {
      try y.narrow(1, frame, 1).copy_(y.narrow(1, total - after - 1, 1))
    }
    return y
  }

  /// The features inside the border of a result of `padded`: all frames, including the added ones.
  func interior(_ padded: Tensor) throws -> Tensor {
    if padding == .zeros { return padded }
    return try padded.narrow(2, 1, padded.size(2) - 2).narrow(3, 1, padded.size(3) - 2)
  }

  /// Fills the first and last entry of a dimension from the `size` entries between them.
  private func fillBorder(_ y: Tensor, _ dimension: Int, _ size: Int) throws {
    let (first, last) =
      switch padding {
      case .reflect: (2, size - 1)
      case .circular: (size, 1)
      case .replicate, .zeros: (1, size)
      }
    try y.narrow(dimension, 0, 1).copy_(y.narrow(dimension, first, 1))
    try y.narrow(dimension, size + 1, 1).copy_(y.narrow(dimension, last, 1))
  }
}
