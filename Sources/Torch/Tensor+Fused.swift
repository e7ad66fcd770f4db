// B batch, T tokens, D width, H heads, R rank.

import CTorch

/// Layers that run as one operation, forward and backward, instead of many libtorch operations.
extension Tensor {
  /// x / sqrt(mean(x^2) + eps) over the last dimension, times the weight [D], if given.
  public func rmsNorm(weight: Tensor? = nil, eps: Double) throws -> Tensor {
    try produce { ct_rms_norm_modulated(handle, weight?.handle, nil, nil, eps, $0) }
  }

  /// `rmsNorm` times (1 + scale), plus shift; both are [B, T or 1, D] for x [B, T, D].
  public func modulatedRMSNorm(scale: Tensor, shift: Tensor, eps: Double) throws -> Tensor {
    try produce { ct_rms_norm_modulated(handle, nil, scale.handle, shift.handle, eps, $0) }
  }

  /// Rotates the two halves of each head: the elements of the first half are paired with those of
  /// the second.
  ///
  /// - Parameter cos, sin: [B, H, T, D/H/2]
  /// - Returns: [B, H, T, D/H] for x [B, T, D]
  public func rotatedHalves(cos: Tensor, sin: Tensor) throws -> Tensor {
    try produce { ct_rotate_split(handle, cos.handle, sin.handle, $0) }
  }

  /// x W^T + bias, for a frozen W that is `elements` times `factors` in `dtype`. W is not kept for
  /// the backward pass.
  ///
  /// - Parameters:
  ///   - elements: [outputs, inputs], in any dtype.
  ///   - factors: [1] or [outputs, 1], or nil.
  ///   - scalesProduct: Multiplies the product by the factors instead of W, whose elements then
  ///     must be exact in `dtype`.
  public func linear(
    quantized elements: Tensor, factors: Tensor?, dtype: DType, scalesProduct: Bool, _ bias: Tensor?
  ) throws -> Tensor {
    try produce {
      ct_linear_quantized(
        handle, elements.handle, factors?.handle, dtype.c, scalesProduct, bias?.handle, $0)
    }
  }

  /// x W^T + bias + scale * (x A^T) B^T. The second product is computed in the adapter's own dtype,
  /// or autocast's.
  ///
  /// - Parameters:
  ///   - weight: W, or its elements if `factors` and `dtype` are given, as above.
  ///   - scalesProduct: As above.
  ///   - down: A, [R, inputs]
  ///   - up: B, [outputs, R]
  public func linear(
    _ weight: Tensor, factors: Tensor? = nil, dtype: DType? = nil, scalesProduct: Bool = false,
    _ bias: Tensor?, adaptedBy down: Tensor, _ up: Tensor, scale: Double
  ) throws -> Tensor {
    try produce {
      ct_linear_adapted(
        handle, weight.handle, factors?.handle, (dtype ?? weight.dtype).c, scalesProduct,
        bias?.handle, down.handle, up.handle, scale, $0)
    }
  }

  /// Runs `body`, in which the layers above find their adapters' factors in autocast's dtype. One
  /// operation makes all of these copies. Without autocast, nothing is copied.
  ///
  /// - Parameters:
  ///   - factors: The factors of all adapters that `body` uses, on one device.
  ///   - device: The device that `body` computes on.
  public static func withCasts<R>(
    of factors: [Tensor], on device: Device, _ body: () throws -> R
  ) throws -> R {
    let state = ct_autocast_get(device.c.kind)
    let wide = state.enabled ? factors.filter { $0.dtype.c != state.dtype } : []
    guard !wide.isEmpty else { return try body() }
    return try withHandles(wide) { handles, count in
      try check(ct_cast_together(handles, count, state.dtype))
      defer { ct_drop_casts(handles, count) }
      return try body()
    }
  }

  /// x + sin²(alpha x) * inverseBeta for x [B, C, N], computed at twice the sample rate. Beyond its
  /// first and last sample, x is constant.
  ///
  /// - Parameters:
  ///   - alpha, inverseBeta: [C]
  ///   - up, down: [12], the filters for upsampling and downsampling.
  public func antialiasedSnake(alpha: Tensor, inverseBeta: Tensor, up: Tensor, down: Tensor) throws
    -> Tensor
  {
    try produce {
      ct_antialiased_snake(handle, alpha.handle, inverseBeta.handle, up.handle, down.handle, $0)
    }
  }
}
