// B batch, T tokens, D width, H heads, R rank.

import CTorch

/// Layers that are one operation, forward and backward, instead of many of libtorch's.
extension Tensor {
  /// x / sqrt(mean(x^2) + eps) over the last dimension, times a weight [D] if there is one.
  public func rmsNorm(weight: Tensor? = nil, eps: Double) throws -> Tensor {
    try produce { ct_rms_norm_modulated(handle, weight?.handle, nil, nil, eps, $0) }
  }

  /// As `rmsNorm`, times 1 + scale, plus shift, both [B, T or 1, D] for an x of [B, T, D].
  public func modulatedRMSNorm(scale: Tensor, shift: Tensor, eps: Double) throws -> Tensor {
    try produce { ct_rms_norm_modulated(handle, nil, scale.handle, shift.handle, eps, $0) }
  }

  /// Rotates the first half of each head with the second.
  ///
  /// - Parameter cos, sin: [B, H, T, D/H/2]
  /// - Returns: [B, H, T, D/H] of x [B, T, D]
  public func rotatedHalves(cos: Tensor, sin: Tensor) throws -> Tensor {
    try produce { ct_rotate_split(handle, cos.handle, sin.handle, $0) }
  }

  /// x W^T + bias, for a frozen W that is `elements` times `factors` in `dtype`. W is not kept for
  /// the backward pass.
  ///
  /// - Parameters:
  ///   - elements: [outputs, inputs], in any type.
  ///   - factors: [1] or [outputs, 1]; nil for none.
  ///   - scalesProduct: multiplies the product by the factors, not W, which then has to be exact in
  ///     `dtype`.
  public func linear(
    quantized elements: Tensor, factors: Tensor?, dtype: DType, scalesProduct: Bool, _ bias: Tensor?
  ) throws -> Tensor {
    try produce {
      ct_linear_quantized(
        handle, elements.handle, factors?.handle, dtype.c, scalesProduct, bias?.handle, $0)
    }
  }

  /// x W^T + bias + scale * (x A^T) B^T, the change in the adapter's own dtype, or
  /// autocast's.
  ///
  /// - Parameters:
  ///   - weight: W, or with `factors` and `dtype` what W is made of, as above.
  ///   - down: A, [R, inputs]
  ///   - up: B, [outputs, R]
  public func linear(
    _ weight: Tensor, factors: Tensor? = nil, dtype: DType? = nil, _ bias: Tensor?,
    adaptedBy down: Tensor,
    _ up: Tensor, scale: Double
  ) throws -> Tensor {
    try produce {
      ct_linear_adapted(
        handle, weight.handle, factors?.handle, (dtype ?? weight.dtype).c, bias?.handle,
        down.handle,
        up.handle, scale, $0)
    }
  }

  /// x + sin²(alpha x) * inverseBeta, between a doubling and a halving of the number of samples,
  /// for x [B, C, N]. Before its first and after its last sample, x is constant.
  ///
  /// - Parameters:
  ///   - alpha, inverseBeta: [C]
  ///   - up, down: [12], the filters that go with the doubling and the halving.
  public func antialiasedSnake(alpha: Tensor, inverseBeta: Tensor, up: Tensor, down: Tensor) throws
    -> Tensor
  {
    try produce {
      ct_antialiased_snake(handle, alpha.handle, inverseBeta.handle, up.handle, down.handle, $0)
    }
  }
}
