// B batch, F H W frames, rows, columns, C channels. Features are [B, F, H, W, C].

import Foundation
import NN
import Torch

/// The source of a decoder's standard normal noise: called with a shape, in the order of use.
public typealias NoiseSource = (_ shape: [Int]) throws -> Tensor

/// The inputs of a decoder's blocks besides the features.
struct DecodingConditions {
  /// [B], scaled (0 to 1000); nil for a model without timestep conditioning.
  var timestep: Tensor?
  var noise: NoiseSource?

  static var none: DecodingConditions { DecodingConditions() }
}

/// One entry of the lists of blocks, as a layer.
protocol VideoVAEBlock: Sendable {
  /// - Parameter x: [B, F, H, W, C]
  func callAsFunction(_ x: Tensor, _ conditions: DecodingConditions) throws -> Tensor
}

/// Divides each position by the root mean square of its channels.
func pixelNorm(_ x: Tensor) throws -> Tensor { try x.rmsNorm(eps: 1e-8) }

/// Turns the timestep into shifts and scales: sinusoid, linear, SiLU, linear, plus a table.
struct TimestepModulation: Sendable {
  private let linear1: Linear
  private let linear2: Linear

  /// - Parameter outputs: The number of rows of the tables times their width.
  init(_ w: Weights, outputs: Int) throws {
    let w = w / "timestep_embedder"
    linear1 = try Linear(w / "linear_1", inputs: 256, outputs: outputs)
    linear2 = try Linear(w / "linear_2", inputs: outputs, outputs: outputs)
  }

  /// - Parameter timestep: [B]
  /// - Returns: [B, outputs]
  func callAsFunction(_ timestep: Tensor) throws -> Tensor {
    try linear2(linear1(AdaLNSingle.sinusoid(timestep).to(linear1.dtype)).silu())
  }

  /// The rows of a table with a timestep's embedding added: each [B, 1, 1, 1, C].
  static func rows(_ table: Tensor, _ embedding: Tensor) throws -> [Tensor] {
    let shape = table.shape
    return try (embedding.unflatten(-1, shape) + table).unbind(1).map {
      try $0.reshape([-1, 1, 1, 1, shape[1]])
    }
  }
}

/// Norm, SiLU, convolution, twice, around a skip connection (ltx-core, `video_vae/resnet.py`).
struct ResidualBlock: VideoVAEBlock {
  private let convolution1: CausalConvolution
  private let convolution2: CausalConvolution
  /// [C, 1, 1] each: the scale of the injected noise per channel.
  private let noiseScales: [Tensor]
  /// [4, C]: shift and scale of either half.
  private let table: Tensor?
  private let shortcut: Shortcut?

  init(
    _ w: Weights, inputs: Int, outputs: Int, layout: FeatureLayout, injectsNoise: Bool = false,
    hasTimestep: Bool = false
  ) throws {
    convolution1 = try layout.convolution(w / "conv1", inputs: inputs, outputs: outputs)
    convolution2 = try layout.convolution(w / "conv2", inputs: outputs, outputs: outputs)
    noiseScales =
      injectsNoise
      ? try ["per_channel_scale1", "per_channel_scale2"].map {
        try w.tensor($0, shape: [inputs, 1, 1])
      } : []
    table = hasTimestep ? try w.tensor("scale_shift_table", shape: [4, inputs]) : nil
    shortcut = inputs == outputs ? nil : try Shortcut(w, inputs: inputs, outputs: outputs)
  }

  func callAsFunction(_ x: Tensor, _ conditions: DecodingConditions) throws -> Tensor {
    try callAsFunction(x, embedding: nil, conditions)
  }

  /// - Parameter embedding: [B, 4 C], from the timestep.
  func callAsFunction(_ x: Tensor, embedding: Tensor?, _ conditions: DecodingConditions) throws
    -> Tensor
  {
    var rows: [Tensor] = []
    if let table, let embedding { rows = try TimestepModulation.rows(table, embedding) }
    let inside = try half(x, rows.prefix(2), convolution1, noiseScales.first, conditions)
    let y = try half(inside, rows.suffix(2), convolution2, noiseScales.last, conditions)
    try y.add_(shortcut?(x) ?? x)
    return y
  }

  private func half(
    _ x: Tensor, _ rows: ArraySlice<Tensor>, _ convolution: CausalConvolution,
    _ noiseScale: Tensor?,
    _ conditions: DecodingConditions
  ) throws -> Tensor {
    var h = try pixelNorm(x)
    if let shift = rows.first, let scale = rows.last {
      h = try h.modulated(scale: scale, shift: shift)
    }
    let y = try convolution(h.silu())
    if let noiseScale {
      guard let noise = conditions.noise else { throw VideoDecoder.noiseIssue }
      let shape = y.shape
      let plane = try noise([shape[2], shape[3]]).to(y.device, y.dtype)
      try y.add_(plane.unsqueeze(-1) * noiseScale.flatten())
    }
    return y
  }

  /// A skip connection between widths: norm over a whole sample, and a linear layer per position.
  private struct Shortcut: Sendable {
    private let scale: Tensor
    private let shift: Tensor
    private let weight: Tensor
    private let bias: Tensor

    init(_ w: Weights, inputs: Int, outputs: Int) throws {
      scale = try (w / "norm3").tensor("weight", shape: [inputs])
      shift = try (w / "norm3").tensor("bias", shape: [inputs])
      weight = try (w / "conv_shortcut").tensor("weight", shape: [outputs, inputs, 1, 1, 1])
        .flatten(from: 1)
      bias = try (w / "conv_shortcut").tensor("bias", shape: [outputs])
    }

    func callAsFunction(_ x: Tensor) throws -> Tensor {
      try shift.addingProduct(x.layerNorm(Array(x.shape[1...]), eps: 1e-6), scale).linear(
        weight, bias)
    }
  }
}

/// `res_x`: residual blocks of one width, with one timestep embedding for all.
struct ResidualStage: VideoVAEBlock {
  private let blocks: [ResidualBlock]
  private let modulation: TimestepModulation?

  init(
    _ w: Weights, layers: Int, channels: Int, layout: FeatureLayout, injectsNoise: Bool = false,
    hasTimestep: Bool = false
  ) throws {
    blocks = try (0..<layers).map {
      try ResidualBlock(
        w / "res_blocks" / $0, inputs: channels, outputs: channels, layout: layout,
        injectsNoise: injectsNoise,
        hasTimestep: hasTimestep)
    }
    modulation =
      hasTimestep ? try TimestepModulation(w / "time_embedder", outputs: 4 * channels) : nil
  }

  func callAsFunction(_ x: Tensor, _ conditions: DecodingConditions) throws -> Tensor {
    let embedding = try conditions.timestep.flatMap { try modulation?($0) }
    return try blocks.reduce(x) { try $1($0, embedding: embedding, conditions) }
  }
}

/// `attn`: single-head attention among the positions of a frame (ltx-core,
/// `video_vae/attention.py`).
struct FrameAttention: VideoVAEBlock {
  /// [C]: the norm's scale, times sqrt(C).
  private let scale: Tensor
  private let toQKV: (weight: Tensor, bias: Tensor)
  private let toOut: (weight: Tensor, bias: Tensor)

  init(_ w: Weights, channels: Int) throws {
    scale =
      try (w / "norm").tensor("gamma", shape: [channels, 1, 1]).flatten()
      * Double(channels).squareRoot()
    toQKV = try Self.pointwise(w / "to_qkv", channels, 3 * channels)
    toOut = try Self.pointwise(w / "proj", channels, channels)
  }

  private static func pointwise(_ w: Weights, _ inputs: Int, _ outputs: Int) throws -> (
    Tensor, Tensor
  ) {
    (
      try w.tensor("weight", shape: [outputs, inputs, 1, 1]).flatten(from: 1),
      try w.tensor("bias", shape: [outputs])
    )
  }

  func callAsFunction(_ x: Tensor, _ conditions: DecodingConditions) throws -> Tensor {
    let shape = x.shape
    let length = try x.norm([-1], keepdim: true).clamped(min: 1e-12)
    let qkv = try (x / length * scale).linear(toQKV.weight, toQKV.bias)
      .reshape([shape[0] * shape[1], 1, shape[2] * shape[3], 3 * shape[4]]).chunk(3, -1)
    return try Tensor.scaledDotProductAttention(qkv[0], qkv[1], qkv[2]).linear(
      toOut.weight, toOut.bias
    )
    .reshape(shape) + x
  }
}

/// The layout of a coder's features, and the padding of its convolutions.
struct FeatureLayout: Sendable {
  let padding: VideoVAEConfiguration.SpatialPadding
  let isCausal: Bool

  func convolution(
    _ w: Weights, inputs: Int, outputs: Int, keeping: Int? = nil,
    stride: CompressionFactors = CompressionFactors(time: 1, height: 1, width: 1)
  ) throws -> CausalConvolution {
    try CausalConvolution(
      w, inputs: inputs, outputs: outputs, keeping: keeping, padding: padding, isCausal: isCausal,
      stride: stride)
  }
}
