// B batch, T times, F frequencies, C channels. Features are [B, T, F, C].

import NN
import Torch

/// The norm of the audio VAE's blocks.
struct AudioVAENorm: Sendable {
  /// Scale and shift of the channels, for groups only.
  private let affine: (weight: Tensor, bias: Tensor)?

  init(_ w: Weights, channels: Int, kind: AudioVAEConfiguration.Norm) throws {
    affine =
      kind == .group
      ? (try w.tensor("weight", shape: [channels]), try w.tensor("bias", shape: [channels])) : nil
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor {
    guard let affine else { return try x.rmsNorm(eps: 1e-6) }
    return try x.permute([0, 3, 1, 2]).groupNorm(
      32, weight: affine.weight, bias: affine.bias, eps: 1e-6
    )
    .permute([0, 2, 3, 1]).contiguous()
  }
}

/// Norm, SiLU, convolution, twice, around a skip connection (ltx-core, `audio_vae/resnet.py`).
struct AudioResidualBlock: Sendable {
  private let norm1: AudioVAENorm
  private let norm2: AudioVAENorm
  private let convolution1: SpectrogramConvolution
  private let convolution2: SpectrogramConvolution
  /// A linear layer per position, where the width changes.
  private let shortcut: SpectrogramConvolution?

  init(_ w: Weights, inputs: Int, outputs: Int, configuration: AudioVAEConfiguration) throws {
    let axis = configuration.causalAxis
    norm1 = try AudioVAENorm(w / "norm1", channels: inputs, kind: configuration.norm)
    norm2 = try AudioVAENorm(w / "norm2", channels: outputs, kind: configuration.norm)
    convolution1 = try SpectrogramConvolution(
      w / "conv1", inputs: inputs, outputs: outputs, causalAxis: axis)
    convolution2 = try SpectrogramConvolution(
      w / "conv2", inputs: outputs, outputs: outputs, causalAxis: axis)
    shortcut =
      inputs == outputs
      ? nil
      : try SpectrogramConvolution(
        w / "nin_shortcut", inputs: inputs, outputs: outputs, kernel: 1, causalAxis: axis)
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor {
    let y = try convolution2(norm2(convolution1(norm1(x).silu())).silu())
    try y.add_(shortcut?(x) ?? x)
    return y
  }
}

/// Single-head attention among all times and frequencies (ltx-core, `audio_vae/attention.py`).
struct SpectrogramAttention: Sendable {
  private let norm: AudioVAENorm
  private let query: (weight: Tensor, bias: Tensor)
  private let key: (weight: Tensor, bias: Tensor)
  private let value: (weight: Tensor, bias: Tensor)
  private let output: (weight: Tensor, bias: Tensor)

  init(_ w: Weights, channels: Int, configuration: AudioVAEConfiguration) throws {
    func pointwise(_ name: String) throws -> (Tensor, Tensor) {
      (
        try (w / name).tensor("weight", shape: [channels, channels, 1, 1]).flatten(from: 1),
        try (w / name).tensor("bias", shape: [channels])
      )
    }
    norm = try AudioVAENorm(w / "norm", channels: channels, kind: configuration.norm)
    query = try pointwise("q")
    key = try pointwise("k")
    value = try pointwise("v")
    output = try pointwise("proj_out")
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor {
    let shape = x.shape
    let h = try norm(x).reshape([shape[0], 1, shape[1] * shape[2], shape[3]])
    let mixed = try Tensor.scaledDotProductAttention(
      h.linear(query.weight, query.bias), h.linear(key.weight, key.bias),
      h.linear(value.weight, value.bias))
    return try mixed.linear(output.weight, output.bias).reshape(shape) + x
  }
}

/// The residual blocks of one level, each followed by attention if the configuration has it.
struct AudioVAELevel: Sendable {
  private let blocks: [AudioResidualBlock]
  private let attention: [SpectrogramAttention]

  init(
    _ w: Weights, inputs: Int, outputs: Int, layers: Int, hasAttention: Bool,
    configuration: AudioVAEConfiguration
  ) throws {
    blocks = try (0..<layers).map {
      try AudioResidualBlock(
        w / "block" / $0, inputs: $0 == 0 ? inputs : outputs, outputs: outputs,
        configuration: configuration)
    }
    attention =
      hasAttention
      ? try (0..<layers).map {
        try SpectrogramAttention(w / "attn" / $0, channels: outputs, configuration: configuration)
      } : []
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor {
    var x = x
    for (index, block) in blocks.enumerated() {
      x = try block(x)
      if !attention.isEmpty { x = try attention[index](x) }
    }
    return x
  }
}

/// The block between the coders' levels and the latent: two residual blocks with attention between
/// them.
struct AudioVAEMiddle: Sendable {
  private let first: AudioResidualBlock
  private let attention: SpectrogramAttention?
  private let second: AudioResidualBlock

  init(_ w: Weights, channels: Int, hasAttention: Bool, configuration: AudioVAEConfiguration) throws
  {
    first = try AudioResidualBlock(
      w / "block_1", inputs: channels, outputs: channels, configuration: configuration)
    attention =
      hasAttention
      ? try SpectrogramAttention(w / "attn_1", channels: channels, configuration: configuration)
      : nil
    second = try AudioResidualBlock(
      w / "block_2", inputs: channels, outputs: channels, configuration: configuration)
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor {
    let h = try first(x)
    return try second(attention?(h) ?? h)
  }
}

/// The mean and deviation of each element of a latent frame, by which latents are normalized.
struct AudioStatistics: Sendable {
  /// [1, Z, 1, F]: statistics are stored in the order of a token's channels, frequencies fastest.
  private let mean: Tensor
  private let deviation: Tensor

  init(_ w: Weights, configuration: AudioVAEConfiguration) throws {
    let w = w / "per_channel_statistics"
    let (channels, bins) = (configuration.latentChannels, configuration.frequencyBins)
    func read(_ name: String) throws -> Tensor {
      try w.tensor(name, shape: [channels * bins]).reshape([1, channels, 1, bins])
    }
    mean = try read("mean-of-means")
    deviation = try read("std-of-means")
  }

  /// - Parameter latent: [B, Z, T, F]
  func normalize(_ latent: Tensor) throws -> Tensor {
    try (latent - mean.to(latent.dtype)) / deviation.to(latent.dtype)
  }

  func denormalize(_ latent: Tensor) throws -> Tensor {
    try latent * deviation.to(latent.dtype) + mean.to(latent.dtype)
  }
}
