// B batch, C channels, N samples at the rate of a layer.

import NN
import Torch

/// Turns a spectrogram into samples, by transposed convolutions that each raise the rate, followed
/// by residual blocks: HiFi-GAN and BigVGAN v2 (ltx-core, `audio_vae/vocoder.py`).
struct WaveGenerator: Sendable {
  /// The channels of the input: the audio's channels times the frequencies.
  let inputs: Int
  private let configuration: VocoderConfiguration.Generator
  private let convolutionIn: WaveConvolution
  private let stages: [Stage]
  private let lastActivation: AntialiasedSnake?
  private let convolutionOut: WaveConvolution

  private struct Stage: Sendable {
    /// [C, C / 2, kernel]
    let weight: Tensor
    let bias: Tensor
    let rate: Int
    let blocks: [WaveResidualBlock]
  }

  init(_ w: Weights, inputs: Int, configuration: VocoderConfiguration.Generator) throws {
    self.configuration = configuration
    self.inputs = inputs
    var width = configuration.initialWidth
    convolutionIn = try WaveConvolution(w / "conv_pre", inputs: inputs, outputs: width, kernel: 7)
    let kernels = configuration.residualKernels
    stages = try configuration.upsamplingRates.enumerated().map { index, rate in
      let kernel = configuration.upsamplingKernels[index]
      let (before, after) = (width, width / 2)
      width = after
      let blocks = try kernels.indices.map {
        try WaveResidualBlock(
          w / "resblocks" / (index * kernels.count + $0), channels: after, kernel: kernels[$0],
          dilations: configuration.residualDilations[$0], activation: configuration.activation)
      }
      let place = w / "ups" / index
      return Stage(
        weight: try place.tensor("weight", shape: [before, after, kernel]),
        bias: try place.tensor("bias", shape: [after]), rate: rate, blocks: blocks)
    }
    lastActivation =
      configuration.activation == .snake
      ? try AntialiasedSnake(w / "act_post", channels: width) : nil
    convolutionOut = try WaveConvolution(
      w / "conv_post", inputs: width, outputs: Vocoder.channels, kernel: 7,
      hasBias: configuration.lastHasBias
    )
  }

  var dtype: DType { convolutionIn.dtype }
  var device: Device { convolutionIn.device }

  /// - Parameter x: [B, inputs, T]
  /// - Returns: [B, 2, T * factor]
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    var x = try features(x, stages: stages.count)
    if let lastActivation {
      x = try lastActivation(x)
    } else {
      // Not the slope of the earlier layers: upstream uses libtorch's default here.
      try x.leakyReLU_(negativeSlope: 0.01)
    }
    x = try convolutionOut(x)
    switch configuration.ending {
    case .tanh: return try x.tanh()
    case .clamp: return try x.clamped(min: -1, max: 1)
    case .none: return x
    }
  }

  /// The features after the first `count` stages, each of which raises the rate.
  ///
  /// - Parameter x: [B, inputs, T]
  func features(_ x: Tensor, stages count: Int) throws -> Tensor {
    var x = try convolutionIn(x)
    for stage in stages.prefix(count) {
      if configuration.activation == .leaky {
        try x.leakyReLU_(negativeSlope: WaveResidualBlock.slope)
      }
      x = try x.convTransposed1d(
        stage.weight, stage.bias, stride: [stage.rate],
        padding: [(stage.weight.size(2) - stage.rate) / 2])
      let sum = try stage.blocks[0](x)
      for block in stage.blocks.dropFirst() { try sum.add_(block(x)) }
      try sum.multiply_(by: Scalar(1 / Double(stage.blocks.count)))
      x = sum
    }
    return x
  }
}

/// A convolution over time that keeps the length.
struct WaveConvolution: Sendable {
  /// [outputs, inputs, kernel]
  private let weight: Tensor
  private let bias: Tensor?
  private let padding: Int
  private let dilation: Int

  init(
    _ w: Weights, inputs: Int, outputs: Int, kernel: Int, dilation: Int = 1, hasBias: Bool = true
  ) throws {
    weight = try w.tensor("weight", shape: [outputs, inputs, kernel])
    bias = hasBias ? try w.tensor("bias", shape: [outputs]) : nil
    padding = (kernel - 1) * dilation / 2
    self.dilation = dilation
  }

  var dtype: DType { weight.dtype }
  var device: Device { weight.device }

  func callAsFunction(_ x: Tensor) throws -> Tensor {
    try x.conv1d(weight, bias, padding: [padding], dilation: [dilation])
  }
}

/// Activation, dilated convolution, activation, convolution, three times, each around a skip
/// connection.
struct WaveResidualBlock: Sendable {
  static let slope: Scalar = 0.1

  private let layers: [Layer]

  private struct Layer: Sendable {
    let convolution1: WaveConvolution
    let convolution2: WaveConvolution
    /// Nil for HiFi-GAN.
    let snakes: (AntialiasedSnake, AntialiasedSnake)?
  }

  init(
    _ w: Weights, channels: Int, kernel: Int, dilations: [Int],
    activation: VocoderConfiguration.Activation
  ) throws {
    layers = try dilations.enumerated().map { index, dilation in
      Layer(
        convolution1: try WaveConvolution(
          w / "convs1" / index, inputs: channels, outputs: channels, kernel: kernel,
          dilation: dilation),
        convolution2: try WaveConvolution(
          w / "convs2" / index, inputs: channels, outputs: channels, kernel: kernel),
        snakes: activation == .snake
          ? (
            try AntialiasedSnake(w / "acts1" / index, channels: channels),
            try AntialiasedSnake(w / "acts2" / index, channels: channels)
          ) : nil)
    }
  }

  /// - Parameter x: [B, C, N]; it isn't changed.
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    var x = x
    for layer in layers {
      let y: Tensor
      if let snakes = layer.snakes {
        y = try layer.convolution2(snakes.1(layer.convolution1(snakes.0(x))))
      } else {
        let h = try layer.convolution1(x.leakyReLU(negativeSlope: Self.slope))
        try h.leakyReLU_(negativeSlope: Self.slope)
        y = try layer.convolution2(h)
      }
      try y.add_(x)
      x = y
    }
    return x
  }
}

/// x + sin²(αx) / β between a doubling and a halving of the rate, so that the overtones that it
/// adds are cut off and don't alias (BigVGAN, section 3.2; ltx-core, `audio_vae/vocoder.py`).
struct AntialiasedSnake: Sendable {
  /// [C] each: the checkpoint holds logarithms.
  private let alpha: Tensor
  private let inverseBeta: Tensor
  /// [12] each; the first one times 2, to compensate for the zeros between samples.
  private let upsampling: Tensor
  private let downsampling: Tensor

  private static let taps = 12

  init(_ w: Weights, channels: Int) throws {
    alpha = try (w / "act").tensor("alpha", shape: [channels]).exp()
    inverseBeta = try ((w / "act").tensor("beta", shape: [channels]).exp() + 1e-9).reciprocal()
    func filter(_ w: Weights) throws -> Tensor {
      try w.tensor("filter", shape: [1, 1, Self.taps]).flatten().contiguous()
    }
    upsampling = try filter(w / "upsample") * 2
    downsampling = try filter(w / "downsample" / "lowpass")
  }

  /// - Parameter x: [B, C, N]
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    try x.antialiasedSnake(
      alpha: alpha, inverseBeta: inverseBeta, up: upsampling, down: downsampling)
  }
}
