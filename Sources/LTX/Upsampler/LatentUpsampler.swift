// B batch, C latent channels, M middle channels, F H W latent frames, rows, columns. Features are
// [B, M, F, H, W] or, where each frame is a separate image, [B * F, M, H, W].

import NN
import Support
import TensorFiles
import Torch

/// Upsamples latents in space or time, without decoding to pixels (ltx-core, `upsampler/model.py`).
///
/// It is stored in a separate file, whose metadata describes it. It works on the VAE's latents
/// before normalization, so it needs the VAE's statistics.
public struct LatentUpsampler: Sendable {
  public let configuration: LatentUpsamplerConfiguration
  private let convolutionIn: Convolution
  private let normIn: GroupNorm
  private let before: [ResidualBlock]
  private let upsampling: Upsampling
  private let after: [ResidualBlock]
  private let convolutionOut: Convolution

  /// Opens a file.
  ///
  /// - Parameter dtype: The dtype of weights and computation; nil for that of the file.
  /// - Throws: `TensorFileError` for a file that isn't safetensors, `Issue` and `WeightError` for
  ///   one that isn't an upsampler, or an unsupported one.
  public init(path: String, dtype: DType? = nil, device: Device = .cpu) throws {
    let file = try DescribedTensors.describing(SafetensorsFile(path: path))
    guard let json = file.metadata["config"] else {
      throw Issue(
        [.file(path), "__metadata__.config"],
        "is missing: this is not a latent upsampler of LTX-2, whose metadata describes it")
    }
    let weights = Weights(file, LoadPolicy(dtype: dtype, device: device))
    guard weights.has("initial_conv.weight") else {
      throw WeightError(
        file: path, key: "initial_conv.weight",
        problem:
          "is missing: this is not a latent upsampler; name the file of a spatial or temporal upscaler"
      )
    }
    try self.init(
      weights, configuration: LatentUpsamplerConfiguration(Configuration(json: json, file: path)))
    if let stray = weights.unusedKeys.first {
      throw WeightError(
        file: path, key: stray,
        problem: "is not part of the upsampler that the file's configuration describes"
      )
    }
  }

  /// - Parameter w: The root of the upsampler's file.
  /// - Throws: `WeightError` if the file doesn't fit the configuration.
  public init(_ w: Weights, configuration: LatentUpsamplerConfiguration) throws {
    self.configuration = configuration
    let (channels, middle) = (configuration.inputChannels, configuration.middleChannels)
    let dimensions = configuration.dimensions
    func stage(_ name: String) throws -> [ResidualBlock] {
      try (0..<configuration.blocksPerStage).map {
        try ResidualBlock(w / name / $0, channels: middle, dimensions: dimensions)
      }
    }
    convolutionIn = try Convolution(
      w / "initial_conv", inputs: channels, outputs: middle, dimensions: dimensions)
    normIn = try GroupNorm(w / "initial_norm", channels: middle)
    before = try stage("res_blocks")
    upsampling = try Upsampling(w / "upsampler", channels: middle, configuration)
    after = try stage("post_upsample_res_blocks")
    convolutionOut = try Convolution(
      w / "final_conv", inputs: middle, outputs: channels, dimensions: dimensions)
  }

  /// - Parameters:
  ///   - latent: [B, C, F, H, W], normalized as the encoder returns it.
  ///   - statistics: The statistics of the latent's VAE.
  /// - Returns: [B, C, F', H', W'] (`configuration.outputSize`), normalized again, in the latent's
  ///   dtype, on the upsampler's device.
  /// - Throws: `Issue` for a latent of another shape, or statistics with another number of
  ///   channels.
  public func callAsFunction(_ latent: Tensor, statistics: ChannelStatistics) throws -> Tensor {
    let shape = latent.shape
    let channels = configuration.inputChannels
    guard shape.count == 5, shape[1] == channels, shape.allSatisfy({ $0 > 0 }) else {
      throw Issue.shape(
        "latent", shape, expected: "[batch, \(channels), frames, rows, columns]")
    }
    guard statistics.mean.shape == [channels], statistics.std.shape == [channels] else {
      throw Issue(
        ["latent statistics"],
        "have shape \(statistics.mean.shape) (expected [\(channels)], the channels of the upsampler)",
        suggestion: "Use an upsampler and a video VAE of the same model.")
    }
    let weight = convolutionIn.weight
    let mean = try statistics.mean.to(weight.device, weight.dtype).reshape([channels, 1, 1, 1])
    let std = try statistics.std.to(weight.device, weight.dtype).reshape([channels, 1, 1, 1])
    let y = try upsampled(latent.to(weight.device, weight.dtype) * std + mean)
    return try ((y - mean) / std).to(latent.dtype)
  }

  /// The network: [B, C, F, H, W] to [B, C, F', H', W'].
  private func upsampled(_ latent: Tensor) throws -> Tensor {
    let isImages = configuration.dimensions == 2
    var x = isImages ? try Frames.apart(latent) : latent
    x = try normIn(convolutionIn(x)).silu()
    for block in before { x = try block(x) }
    x = try upsampling(x)
    for block in after { x = try block(x) }
    x = try convolutionOut(x)
    return isImages ? try Frames.together(x, batch: latent.size(0)) : x
  }
}

extension LatentUpsampler {
  /// A convolution over 3 positions on each axis, with zero padding.
  fileprivate struct Convolution: Sendable {
    /// [outputs, inputs, 3, 3] or [outputs, inputs, 3, 3, 3]
    let weight: Tensor
    private let bias: Tensor

    init(_ w: Weights, inputs: Int, outputs: Int, dimensions: Int) throws {
      weight = try w.tensor(
        "weight", shape: [outputs, inputs] + [Int](repeating: 3, count: dimensions))
      bias = try w.tensor("bias", shape: [outputs])
    }

    func callAsFunction(_ x: Tensor) throws -> Tensor {
      weight.shape.count == 4
        ? try x.conv2d(weight, bias, padding: [1, 1])
        : try x.conv3d(weight, bias, padding: [1, 1, 1])
    }
  }

  /// Groups of channels, normalized over all of their positions (Wu and He, "Group Normalization",
  /// 2018).
  fileprivate struct GroupNorm: Sendable {
    private let weight: Tensor
    private let bias: Tensor

    init(_ w: Weights, channels: Int) throws {
      weight = try w.tensor("weight", shape: [channels])
      bias = try w.tensor("bias", shape: [channels])
    }

    func callAsFunction(_ x: Tensor) throws -> Tensor {
      try x.groupNorm(
        LatentUpsamplerConfiguration.normGroups, weight: weight, bias: bias, eps: 1e-5)
    }
  }

  /// Convolution and norm, twice; the input is added before the last activation.
  fileprivate struct ResidualBlock: Sendable {
    private let convolution1: Convolution
    private let norm1: GroupNorm
    private let convolution2: Convolution
    private let norm2: GroupNorm

    init(_ w: Weights, channels: Int, dimensions: Int) throws {
      convolution1 = try Convolution(
        w / "conv1", inputs: channels, outputs: channels, dimensions: dimensions)
      norm1 = try GroupNorm(w / "norm1", channels: channels)
      convolution2 = try Convolution(
        w / "conv2", inputs: channels, outputs: channels, dimensions: dimensions)
      norm2 = try GroupNorm(w / "norm2", channels: channels)
    }

    func callAsFunction(_ x: Tensor) throws -> Tensor {
      let inside = try norm1(convolution1(x)).silu()
      return try (norm2(convolution2(inside)) + x).silu()
    }
  }

  /// The layer that upsamples features: a convolution whose channels are moved into positions.
  fileprivate struct Upsampling: Sendable {
    private let convolution: Convolution
    private let scale: LatentUpsamplerConfiguration.Scale
    private let isTemporal: Bool
    private let isImages: Bool
    /// [1, 1, 5, 5]: blurs before positions are dropped.
    private let blur: Tensor?

    init(_ w: Weights, channels: Int, _ configuration: LatentUpsamplerConfiguration) throws {
      scale = configuration.spatialScale
      isTemporal = configuration.isTemporal
      isImages = configuration.dimensions == 2
      // The number of output positions per input position.
      let cells = scale.numerator * scale.numerator * (isTemporal ? 2 : 1)
      let isRational = configuration.method == .rational
      convolution = try Convolution(
        isRational ? w / "conv" : w / 0, inputs: channels, outputs: cells * channels,
        dimensions: isTemporal ? 3 : 2)
      blur = isRational ? try (w / "blur_down").tensor("kernel", shape: [1, 1, 5, 5]) : nil
    }

    func callAsFunction(_ x: Tensor) throws -> Tensor {
      if isTemporal { return try inTime(convolution(x)) }
      if isImages { return try inSpace(x) }
      return try Frames.together(inSpace(Frames.apart(x)), batch: x.size(0))
    }

    /// [B, M, H, W] to [B, M, H', W']
    private func inSpace(_ x: Tensor) throws -> Tensor {
      let n = scale.numerator
      let y = try convolution(x).unflatten(1, [-1, n, n]).permute([0, 1, 4, 2, 5, 3])
        .flatten(from: 4).flatten(from: 2, through: 3)
      guard let blur, scale.denominator > 1 else { return y }
      let channels = y.size(1)
      let stride = [scale.denominator, scale.denominator]
      return try y.conv2d(
        blur.expand([channels, 1, 5, 5]), stride: stride, padding: [2, 2], groups: channels)
    }

    /// [B, M * cells, F, H, W] to [B, M, 2 F - 1, H', W']: the first frame becomes one frame, not
    /// two.
    private func inTime(_ x: Tensor) throws -> Tensor {
      let n = scale.numerator
      let y = try x.unflatten(1, [-1, 2, n, n]).permute([0, 1, 5, 2, 6, 3, 7, 4])
        .flatten(from: 6).flatten(from: 4, through: 5).flatten(from: 2, through: 3)
      return try y.narrow(2, 1, y.size(2) - 1)
    }
  }

  /// A video, and its frames as separate images.
  fileprivate enum Frames {
    /// [B, C, F, H, W] to [B * F, C, H, W]
    static func apart(_ x: Tensor) throws -> Tensor {
      try x.transpose(1, 2).flatten(from: 0, through: 1)
    }

    /// The inverse of `apart`.
    static func together(_ x: Tensor, batch: Int) throws -> Tensor {
      try x.unflatten(0, [batch, -1]).transpose(1, 2)
    }
  }
}
