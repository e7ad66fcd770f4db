// B batch, T times, F frequencies, C channels. Features are stored channels last, [B, T, F, C]: the
// layout that the convolutions compute in, and one in which a norm over the channels reads memory
// in order.

import NN
import Torch

/// A convolution over time and frequency with zero padding, which sees nothing later along the
/// causal axis (ltx-core, `audio_vae/causal_conv_2d.py`).
struct SpectrogramConvolution: Sendable {
  /// [outputs, C, k, k]
  private let weight: Tensor
  private let bias: Tensor
  private let padding: Int
  private let causalAxis: AudioVAEConfiguration.CausalAxis

  /// - Parameter keeping: The number of outputs that are computed, from the first; nil for all.
  init(
    _ w: Weights, inputs: Int, outputs: Int, kernel: Int = 3, keeping: Int? = nil,
    causalAxis: AudioVAEConfiguration.CausalAxis
  ) throws {
    let w = w / "conv"
    weight = try w.tensor("weight", shape: [outputs, inputs, kernel, kernel]).slice(0, to: keeping)
    bias = try w.tensor("bias", shape: [outputs]).slice(0, to: keeping)
    padding = kernel - 1
    self.causalAxis = causalAxis
  }

  var dtype: DType { weight.dtype }
  var device: Device { weight.device }

  /// - Parameters:
  ///   - x: [B, T, F, C]
  ///   - skipped: The number of outputs at the beginning of the causal axis that are omitted.
  /// - Returns: [B, T, F, outputs]
  ///
  /// Along the causal axis the kernel pads both sides by its reach, and the outputs that see ahead
  /// are cut off: this is cheaper than a copy of the features with zeros in front.
  func callAsFunction(_ x: Tensor, skipping skipped: Int = 0) throws -> Tensor {
    let axis: Int? =
      switch causalAxis {
      case .none: nil
      case .time: 1
      case .frequency, .frequencyCompatible: 2
      }
    let half = padding / 2
    let y = try x.permute([0, 3, 1, 2]).conv2d(
      weight, bias, padding: [axis == 1 ? padding : half, axis == 2 ? padding : half]
    ).permute([0, 2, 3, 1])
    guard let axis else { return try y.contiguous() }
    return try y.narrow(axis, skipped, x.size(axis) - skipped).contiguous()
  }
}

/// Halves times and frequencies (ltx-core, `audio_vae/downsample.py`).
struct SpectrogramDownsampling: Sendable {
  private let weight: Tensor
  private let bias: Tensor
  /// Zeros before and after the frequencies, before and after the times.
  private let padding: [Int]

  init(_ w: Weights, channels: Int, causalAxis: AudioVAEConfiguration.CausalAxis) throws {
    weight = try (w / "conv").tensor("weight", shape: [channels, channels, 3, 3])
    bias = try (w / "conv").tensor("bias", shape: [channels])
    padding =
      switch causalAxis {
      case .none: [0, 1, 0, 1]
      case .time: [0, 1, 2, 0]
      case .frequency: [2, 0, 0, 1]
      case .frequencyCompatible: [1, 0, 0, 1]
      }
  }

  /// - Parameter x: [B, T, F, C]
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    try x.pad([0, 0] + padding).permute([0, 3, 1, 2]).conv2d(weight, bias, stride: [2, 2])
      .permute([0, 2, 3, 1]).contiguous()
  }
}

/// Doubles times and frequencies, without the first one of the causal axis (ltx-core,
/// `audio_vae/upsample.py`).
struct SpectrogramUpsampling: Sendable {
  private let convolution: SpectrogramConvolution
  private let skipped: Int

  init(_ w: Weights, channels: Int, causalAxis: AudioVAEConfiguration.CausalAxis) throws {
    convolution = try SpectrogramConvolution(
      w / "conv", inputs: channels, outputs: channels, causalAxis: causalAxis)
    skipped = causalAxis == .time || causalAxis == .frequency ? 1 : 0
  }

  /// - Parameter x: [B, T, F, C]
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    let doubled = try x.permute([0, 3, 1, 2]).resizeNearest([2 * x.size(1), 2 * x.size(2)])
    return try convolution(doubled.permute([0, 2, 3, 1]), skipping: skipped)
  }
}
