// T H W frames, rows, columns of a volume, C channels. Volumes are [T, H, W, C] and are changed in
// place.

import NN
import Torch

/// A linear layer of the diffusion decoder, whose weight may be changed when it is loaded.
struct ChannelLinear: Sendable {
  /// [outputs, inputs]
  let weight: Tensor
  /// [outputs]
  let bias: Tensor?

  init(weight: Tensor, bias: Tensor?) {
    self.weight = weight
    self.bias = bias
  }

  /// - Parameter gate: A static gate that multiplies the output.
  init(_ w: Weights, inputs: Int, outputs: Int, bias: Bool = true, gate: StaticGate? = nil) throws {
    func tensor(_ name: String, _ shape: [Int]) throws -> Tensor {
      try gate?.folded(into: w, name, shape: shape) ?? w.tensor(name, shape: shape)
    }
    weight = try tensor("weight", [outputs, inputs])
    self.bias = bias ? try tensor("bias", [outputs]) : nil
  }

  var dtype: DType { weight.dtype }

  /// - Parameter x: [.., inputs]
  /// - Returns: [.., outputs]
  func callAsFunction(_ x: Tensor) throws -> Tensor { try x.linear(weight, bias) }
}

/// A gate of a block that doesn't depend on the timestep. It is multiplied with the rows of a layer
/// when that is loaded, and the product is rounded to the dtype of the file, as upstream does.
struct StaticGate: Sendable {
  /// [outputs], float32.
  private let values: Tensor

  /// Nil if the checkpoint has no such gate.
  init?(_ w: Weights, _ name: String, channels: Int) throws {
    guard w.has(name) else { return nil }
    values = try w.storedTensor(name, shape: [channels]).to(.float32)
  }

  /// A weight [outputs, inputs] or bias [outputs] times the gate.
  func folded(into w: Weights, _ name: String, shape: [Int]) throws -> Tensor {
    let stored = try w.storedTensor(name, shape: shape)
    let gate = shape.count == 2 ? try values.unsqueeze(-1) : values
    return try w.converted((stored.to(.float32) * gate).to(stored.dtype))
  }
}

/// RMS norm of each position of a volume, which a timestep may modulate.
struct VolumeNorm: Sendable {
  static let eps = 1e-6

  /// [C]
  private let weight: Tensor
  /// [1, 1, C] each, in the dtype of the volume: the norm is multiplied by 1 + scale.
  private var modulation: (scale: Tensor, shift: Tensor)?

  init(_ w: Weights, channels: Int) throws {
    weight = try w.tensor("weight", shape: [channels])
  }

  /// The norm times 1 + scale, plus shift.
  ///
  /// - Parameters:
  ///   - scale, shift: [C], float32.
  func modulated(scale: Tensor, shift: Tensor) throws -> VolumeNorm {
    // One operation instead of two: weight * (1 + scale) is 1 plus another scale.
    let combined = try (scale + 1) * weight.to(.float32) - 1
    var norm = self
    norm.modulation = (
      try combined.to(weight.dtype).reshape([1, 1, -1]),
      try shift.to(weight.dtype).reshape([1, 1, -1])
    )
    return norm
  }

  /// - Parameter x: [.., C], contiguous.
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    guard let modulation else { return try x.rmsNorm(weight: weight, eps: Self.eps) }
    let rows = try x.reshape([1, -1, x.size(-1)])
    return try rows.modulatedRMSNorm(
      scale: modulation.scale, shift: modulation.shift, eps: Self.eps
    ).reshape(x.shape)
  }
}

/// The gated feed-forward of a block (Shazeer, "GLU Variants Improve Transformer", 2020).
struct GatedFeedForward: Sendable {
  private let gate: ChannelLinear
  private let up: ChannelLinear
  private let down: ChannelLinear
  private let hidden: Int

  init(_ w: Weights, channels: Int, gate staticGate: StaticGate? = nil) throws {
    hidden = ceilDivide(4 * channels, 16) * 16
    gate = try ChannelLinear(w / "w_gate", inputs: channels, outputs: hidden, bias: false)
    up = try ChannelLinear(w / "w_up", inputs: channels, outputs: hidden, bias: false)
    down = try ChannelLinear(
      w / "w_down", inputs: hidden, outputs: channels, bias: false, gate: staticGate)
  }

  /// Adds the result for the normalized volume to the volume.
  func add(to x: Tensor, norm: VolumeNorm) throws {
    let rows = try x.flatten(from: 0, through: 2)
    for part in WorkSize(x.device).parts(of: rows.size(0), elements: hidden) {
      let own = try rows.narrow(0, part)
      let normed = try norm(own)
      let product = try gate(normed)
      try product.silu_()
      try product.multiply_(by: up(normed))
      try own.add_(down(product))
    }
  }
}

/// A block of the deterministic stages: attention and a feed-forward (ltx-core,
/// `video_vae/transformer/blocks.py`).
struct NeighborhoodBlock: Sendable {
  private let norms: (attention: VolumeNorm, feedForward: VolumeNorm)
  private let attention: NeighborhoodAttention
  private let feedForward: GatedFeedForward

  init(_ w: Weights, channels: Int, headSize: Int) throws {
    norms = (
      try VolumeNorm(w / "norm1", channels: channels),
      try VolumeNorm(w / "norm2", channels: channels)
    )
    attention = try NeighborhoodAttention(w / "attn", channels: channels, headSize: headSize)
    feedForward = try GatedFeedForward(w / "mlp", channels: channels)
  }

  func apply(to x: Tensor, _ windows: NeighborhoodWindows) throws {
    try attention.add(to: x, norm: norms.attention, windows)
    try feedForward.add(to: x, norm: norms.feedForward)
  }
}

/// A block of the diffusion stage, which also reads the context.
struct DenoisingBlock: Sendable {
  private let norms: (attention: VolumeNorm, feedForward: VolumeNorm)
  private let context: ChannelLinear
  private let attention: NeighborhoodAttention
  private let feedForward: GatedFeedForward
  /// [7, C], float32, added to the timestep's modulation.
  private let table: Tensor

  init(_ w: Weights, _ configuration: VideoVAEConfiguration.DiffusionDecoder) throws {
    let channels = configuration.channels
    func gate(_ name: String) throws -> StaticGate? {
      try StaticGate(w, name, channels: channels)
    }
    norms = (
      try VolumeNorm(w / "norm1", channels: channels),
      try VolumeNorm(w / "norm2", channels: channels)
    )
    context = try ChannelLinear(
      w / "context_proj", inputs: configuration.contextChannels, outputs: channels,
      gate: gate("gate_ctx"))
    attention = try NeighborhoodAttention(
      w / "attn", channels: channels, headSize: configuration.headSize, gate: gate("gate_msa"))
    feedForward = try GatedFeedForward(w / "mlp", channels: channels, gate: gate("gate_mlp"))
    table = try w.tensor("scale_shift_table", shape: [7, channels]).to(.float32)
  }

  /// - Parameters:
  ///   - context: [T, H, W, context channels]
  ///   - modulation: [7, C], float32: scale, shift and gate of attention and of the feed-forward,
  ///     and a gate of the context. Gates have no effect: static ones replaced them.
  func apply(
    to x: Tensor, context volume: Tensor, modulation: Tensor, _ windows: NeighborhoodWindows
  ) throws {
    let rows = try x.flatten(from: 0, through: 2)
    let contexts = try volume.reshape([-1, volume.size(-1)])
    for part in WorkSize(x.device).parts(of: rows.size(0), elements: x.size(-1)) {
      try rows.narrow(0, part).add_(context(contexts.narrow(0, part)))
    }
    let own = try (modulation + table).unbind(0)
    try attention.add(
      to: x, norm: norms.attention.modulated(scale: own[0], shift: own[1]), windows)
    try feedForward.add(to: x, norm: norms.feedForward.modulated(scale: own[3], shift: own[4]))
  }
}

/// A linear layer whose channels become frames, rows and columns.
struct LinearUpsampling: Sendable {
  /// Its outputs are in the order (frames, rows, columns, channels), in which whole positions are
  /// copied; in files the channels come first.
  private let linear: ChannelLinear
  private let factors: CompressionFactors
  private let channels: Int

  init(_ w: Weights, inputs: Int, outputs: Int, factors: CompressionFactors) throws {
    self.factors = factors
    channels = outputs
    let cells = [factors.time, factors.height, factors.width]
    let count = cells.reduce(1, *)
    let layer = try ChannelLinear(w / "proj", inputs: inputs, outputs: outputs * count)
    linear = ChannelLinear(
      weight: try layer.weight.unflatten(0, [outputs, count]).transpose(0, 1).contiguous()
        .flatten(from: 0, through: 1),
      bias: try layer.bias?.unflatten(0, [outputs, count]).transpose(0, 1).contiguous().flatten())
  }

  /// - Parameters:
  ///   - x: [T, H, W, inputs]
  ///   - dropsFirst: Whether the volume begins the video: the first of two frames that a doubling
  ///     of time makes of the first one is dropped there.
  func callAsFunction(_ x: Tensor, dropsFirst: Bool) throws -> Tensor {
    let shape = x.shape
    let (p, q, r) = (factors.time, factors.height, factors.width)
    let y = try Tensor.empty(
      [shape[0] * p, shape[1] * q, shape[2] * r, channels], dtype: x.dtype, device: x.device)
    let elements = shape[1] * shape[2] * p * q * r * channels
    for part in WorkSize(x.device).parts(of: shape[0], elements: elements) {
      let cells = try linear(x.narrow(0, part)).unflatten(-1, [p, q, r, channels])
      try y.narrow(0, part.lowerBound * p, part.count * p)
        .unflatten(2, [shape[2], r]).unflatten(1, [shape[1], q]).unflatten(0, [part.count, p])
        .copy_(cells.permute([0, 3, 1, 4, 2, 5, 6]))
    }
    return dropsFirst && p > 1 ? try y.narrow(0, p - 1, shape[0] * p - (p - 1)) : y
  }
}
